"""The committed data set: its answers pass their tests, near misses do not, nothing leaks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from pretraining.checks import choose_checks
from pretraining.dataset import rows, specifications
from pretraining.grammar import draw_header, source_lines
from pretraining.names import Scope
from pretraining.phrasebook import Voice
from pretraining.program import Header, sentence

FILE = Path(__file__).resolve().parents[2] / "recipes/quickstart/functions.jsonl"


@pytest.fixture(scope="module")
def committed() -> list[dict[str, str]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def passes(code: str, tests: str) -> bool:
    """Whether the code passes; a near miss may also raise."""
    try:
        exec(f"{code}\n{tests}", {})
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError):
        return False
    return True


def test_the_file_is_what_the_script_writes(committed: list[dict[str, str]]) -> None:
    assert committed == rows()


def test_every_answer_passes_its_tests(committed: list[dict[str, str]]) -> None:
    assert all(passes(row["output"], row["tests"]) for row in committed)


def test_every_row_has_three_to_six_tests(committed: list[dict[str, str]]) -> None:
    counts = Counter(len(row["tests"].splitlines()) for row in committed)
    assert set(counts) <= {3, 4, 5, 6}


def test_an_empty_answer_and_another_name_fail(committed: list[dict[str, str]]) -> None:
    for row in committed[:100]:
        name = row["output"].removeprefix("def ").split("(")[0]
        with pytest.raises(NameError):
            exec(row["tests"], {})
        with pytest.raises(NameError):
            exec(row["output"].replace(name, "_" + name) + "\n" + row["tests"], {})


def test_the_instruction_states_the_name(committed: list[dict[str, str]]) -> None:
    for row in committed:
        assert row["output"].removeprefix("def ").split("(")[0] in row["instruction"]


def test_columns_and_the_share_of_inputs(committed: list[dict[str, str]]) -> None:
    assert all(list(row) == ["instruction", "input", "output", "tests"] for row in committed)
    empty = sum(not row["input"] for row in committed)
    assert 0.4 < empty / len(committed) < 0.6


def test_rows_are_distinct_and_the_last_tenth_is_large_enough(
    committed: list[dict[str, str]],
) -> None:
    assert len(committed) == 3000
    assert len({row["instruction"] for row in committed}) == 3000
    assert len({program.key for program, _ in specifications(400)}) == 400


def test_near_misses_fail_the_tests() -> None:
    rng = Random("near misses of the data set")
    tried = 0
    for program, checks in specifications(150):
        for miss in program.near_misses():
            header, scope = draw_header(rng, miss)
            source = "\n".join(source_lines(rng, miss, header, scope))
            if "while" in source or "range" in source:
                continue  # a near miss of a loop may not end
            assert not passes(source, checks.source(header.function)), (program.key, miss.key)
            tried += 1
    assert tried > 400


def test_checks_report_near_misses_that_they_cannot_tell_apart() -> None:
    from pretraining.collectors import COLLECTORS
    from pretraining.forms import Atom
    from pretraining.mappings import MAPPINGS
    from pretraining.sources import SOURCES
    from pretraining.streams import Stream

    double = next(form for form in MAPPINGS if form.name == "double")
    count = next(collector for collector in COLLECTORS if collector.name == "count")
    pointless = Stream(source=SOURCES[0], stages=(Atom(double),), collector=count)
    assert choose_checks(pointless, Random("checks")).survivors == 1


def test_instructions_use_wording_that_pretraining_lacks(committed: list[dict[str, str]]) -> None:
    seen = " ".join(row["instruction"] for row in committed)
    for phrase in ("exceed", "split evenly in two", "mirror", "glued together", "histogram"):
        assert phrase in seen
    program, _ = specifications(1)[0]
    header = Header(function="f", parameters=("a", "b")[: len(program.parameters)])
    known = {sentence(program.clauses(Voice(Random(str(i))), header)) for i in range(40)}
    new = {sentence(program.clauses(Voice(Random(str(i)), 1.0), header)) for i in range(40)}
    assert not known & new
    assert Scope(["f"]).pick(Random("x"), ["f", "g"]) == "g"
