from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import EvaluationError
from evalsuite.extraction import extracted, scored_texts
from evalsuite.records import Extraction
from tests.evalsuite.conftest import make_example
from tests.evalsuite.metrics.text_pairs import SHARED

LAST_NUMBER = Extraction(preset="last_number")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 48/2 = <<48/2=24>>24 clips.\nIn all 48+24 = <<48+24=72>>72.\n#### 72", "72"),
        ("#### 1,250\n\nQuestion: What is 7 + 8? #### 15", "1250"),
        ("#### $18.50", "18.50"),
        ("####-3", "-3"),
        ("The answer is $1,234,567.", "1234567"),
        ("It is 10-5", "5"),
        ("It is 10 - 5 = 5 and x=-7", "-7"),
        ("It drops by \N{MINUS SIGN}4 degrees", "-4"),
        ("about .5", ".5"),
        ("12 apples, 3.", "3"),
        ("80% of them", "80"),
        ("(1)-(2)", "2"),
        ("no number at all ####", None),
        ("", None),
    ],
)
def test_the_number_that_answers_a_problem(text: str, number: str | None) -> None:
    assert extracted(text, LAST_NUMBER) == number


def test_the_number_of_every_gsm8k_answer_is_the_official_one() -> None:
    """As openai/grade-school-math extracts it: the first "#### (-?[0-9.,]+)", commas removed."""
    path = SHARED / "gsm8k_train_3000.jsonl"
    if not path.is_file():
        pytest.skip("the shared data is not there")
    answers = [json.loads(line)["answer"] for line in path.read_text("utf-8").splitlines()]
    assert len(answers) == 3000
    for answer in answers:
        official = re.search(r"#### (\-?[0-9\.\,]+)", answer)
        assert official is not None
        assert extracted(answer, LAST_NUMBER) == official.group(1).replace(",", "")
        # Without the mark, the last number of the explanation is nearly always it.
    unmarked = [answer.replace("####", "So") for answer in answers]
    same = [extracted(u, LAST_NUMBER) == extracted(a, LAST_NUMBER)
            for u, a in zip(unmarked, answers, strict=True)]  # fmt: skip
    assert all(same)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Extraction(regex=r"answer is (\w+)"), "first"),
        (Extraction(regex=r"answer is (\w+)", take="last"), "second"),
        (Extraction(regex=r"answer is \w+"), "answer is first"),
        (Extraction(regex=r"answer is (\w+)", group=0), "answer is first"),
        (Extraction(regex=r"(an)swer is (\w+)", group=2), "first"),
        (Extraction(regex=r"(an)swer is (\w+)"), "an"),
        (Extraction(regex=r"(?P<word>third)?!"), None),
        (Extraction(regex="nowhere"), None),
        (Extraction(after="is"), "first, or the answer is second!"),
        (Extraction(after="is", take="last"), "second!"),
        (Extraction(after="or", regex=r"is (\w+)"), "second"),
        (Extraction(after="nowhere"), None),
        (Extraction(after="!"), None),
    ],
    ids=str,
)
def test_parts_by_expression_and_after_a_text(how: Extraction, expected: str | None) -> None:
    assert extracted("The answer is first, or the answer is second!", how) == expected


def test_code_blocks_json_lines_and_boxes() -> None:
    code = Extraction(preset="code_block")
    text = "Use\n```python\nx = 1\n```\nor\n```\ny = 2\n```\n"
    assert extracted(text, code) == "x = 1"
    assert extracted(text, replace(code, take="last")) == "y = 2"
    assert extracted("x = 1", code) is None

    values = Extraction(preset="json")
    text = 'Take [this: {"a": [1, {"b": 2}]} or [3] not {broken: 1}'
    assert extracted(text, values) == '{"a": [1, {"b": 2}]}'
    assert extracted(text, replace(values, take="last")) == "[3]"
    assert extracted("[" * 3000, values) is None

    assert extracted("one\n two \n\n", Extraction(preset="last_line")) == "two"
    boxed = Extraction(preset="last_boxed")
    assert extracted(r"\boxed{1} so \boxed{\frac{1}{2}} and \boxed{", boxed) == r"\frac{1}{2}"
    assert extracted(r"\fbox{3}", boxed) == "3"
    assert extracted("boxed", boxed) is None


@given(st.text(), st.sampled_from(["last_number", "last_line", "last_boxed", "code_block", "json"]))
def test_a_preset_finds_a_part_without_space_around_it_or_nothing(text: str, preset: str) -> None:
    found = extracted(text, Extraction(preset=preset))  # type: ignore[arg-type]  # as sampled
    assert found is None or (found and found == found.strip())


@given(st.integers(-(10**12), 10**12), st.text(alphabet="ab \n.,!?"))
def test_a_number_is_found_at_the_end_of_any_words(number: int, words: str) -> None:
    for written in (str(number), f"{number:,}"):
        assert extracted(f"{words} {written}", LAST_NUMBER) == str(number)
        assert extracted(f"{words}\n#### {written}\n{words} 5", LAST_NUMBER) == str(number)


def test_what_is_not_found_is_an_empty_answer_and_is_counted() -> None:
    examples = [make_example(i, range(3, 9), 3) for i in range(3)]
    texts = scored_texts(
        examples,
        ["so 4", "no idea", "It is 5."],
        of_answers=LAST_NUMBER,
        of_references=LAST_NUMBER,
    )
    assert texts.predictions == ("4", "", "5")
    assert texts.references == ("0", "1", "2")  # "answer 0", …
    assert texts.columns == {
        "extracted": ("4", "", "5"),
        "extraction_found": (True, False, True),
        "extracted_reference": ("0", "1", "2"),
    }


def test_without_extraction_texts_are_scored_as_they_are() -> None:
    example = make_example(0, range(3, 9), 3)
    texts = scored_texts([example], [" a "], of_answers=None, of_references=None)
    assert (texts.predictions, texts.references) == ((" a ",), ("answer 0",))
    assert texts.columns == {}


def test_a_reference_without_anything_to_extract_is_an_error() -> None:
    """Else an answer without anything to extract would equal it."""
    example = make_example(4, range(3, 9), 3)
    with pytest.raises(EvaluationError, match=r"row 4: extract\.reference finds nothing in"):
        scored_texts(
            [example],
            ["none"],
            of_answers=LAST_NUMBER,
            of_references=Extraction(regex="####"),
        )
