"""Which rows are shown before a question, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import DataError
from tests.runner.benchmarks.made_benchmarks import TRAIN, Made, make, write_rows

ROWS = [{"q": f"How much is {n} times 2?", "a": f"It is {2 * n}"} for n in range(6)]
BLOCK: dict[str, Any] = {
    "name": "asked",
    "dataset": {
        "source": "asked.jsonl",
        "format": "alpaca",
        "columns": {"instruction": "q", "input": None, "output": "a"},
    },
    "metrics": ["exact_match"],
}


def prompts(folder: Path, few_shot: dict[str, Any], **keys: Any) -> list[str]:
    return asked(folder, few_shot, **keys).prompts("asked")


def asked(folder: Path, few_shot: dict[str, Any], **keys: Any) -> Made:
    recipe = {name: keys.pop(name) for name in ("seed", "train") if name in keys}
    write_rows(folder / "asked.jsonl", keys.pop("rows", ROWS))
    return make(folder, {**BLOCK, "few_shot": few_shot, **keys}, **recipe)


def test_turns_go_through_the_chat_template(tmp_path: Path) -> None:
    few_shot = {"count": 1, "source": "asked.jsonl", "by": "position"}
    first, second, *_ = prompts(tmp_path, few_shot, system="Be brief.")
    assert first == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHow much is 1 times 2?<|im_end|>\n"
        "<|im_start|>assistant\nIt is 2<|im_end|>\n"
        "<|im_start|>user\nHow much is 0 times 2?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "How much is 0 times 2?<|im_end|>\n<|im_start|>assistant\nIt is 0" in second


def test_text_is_what_the_harness_would_ask(tmp_path: Path) -> None:
    few_shot = {"count": 2, "source": "asked.jsonl", "by": "position", "shown": "text"}
    found = prompts(
        tmp_path, few_shot, chat="none", prompt="Q: {{ instruction }}\nA:", delimiter=" "
    )
    assert found[3] == (
        "Q: How much is 0 times 2?\nA: It is 0\n\nQ: How much is 1 times 2?\nA: It is 2\n\n"
        "Q: How much is 3 times 2?\nA:"
    )


@pytest.mark.parametrize("by", ["position", "hash"])
def test_a_row_that_asks_the_same_is_never_shown(tmp_path: Path, by: str) -> None:
    """Not even with other white space or characters of the same meaning; others take its place."""
    shots = [{"q": f"  How\u00a0much is {n}   times 2? ", "a": f"Shown {n}"} for n in (3, 4, 5)]
    write_rows(tmp_path / "shots.jsonl", [*shots, *shots])
    found = prompts(tmp_path, {"count": 2, "source": "shots.jsonl", "by": by})
    for number, prompt in enumerate(found):
        assert prompt.count("Shown") == 2
        assert f"Shown {number}" not in prompt
    assert len({prompt.rpartition("<|im_start|>user")[0] for prompt in found[:3]}) == 1


def test_rows_of_train_alone_are_shown(tmp_path: Path) -> None:
    found = prompts(tmp_path, {"count": 8})
    for prompt in found:
        shown = [row for row in TRAIN if row["instruction"] in prompt]
        assert [TRAIN.index(row) for row in shown] == list(range(8))  # rows 8 and 9 are held out


def test_the_seed_chooses_and_nothing_else(tmp_path: Path) -> None:
    first = prompts(tmp_path, {"count": 2}, seed=1)
    assert prompts(tmp_path, {"count": 2}, seed=1) == first
    assert prompts(tmp_path, {"count": 2}, seed=2) != first
    # A row more in train that ranks behind changes nothing; where it stands does not count.
    turned = prompts(tmp_path, {"count": 2}, seed=1, train=[*reversed(TRAIN[:8]), *TRAIN[8:]])
    assert turned == first


def test_choices_are_shown_with_the_right_answer(tmp_path: Path) -> None:
    rows = [{"q": f"Which is {n}?", "c": [f"{n + 1}", f"{n}"], "g": 1} for n in range(3)]
    few_shot = {"count": 2, "source": "asked.jsonl", "by": "position", "shown": "text"}
    made = asked(
        tmp_path,
        few_shot,
        rows=rows,
        kind="multiple_choice",
        dataset={"source": "asked.jsonl", "columns": {"instruction": "q", "input": None}},
        choices={"column": "c", "gold": "g"},
        chat="none",
        delimiter=" = ",
        metrics=[],
    )
    assert made.prompts("asked")[0] == "Which is 1? = 1\n\nWhich is 2? = 2\n\nWhich is 0?"
    assert made.column("asked", "answer")[:2] == [" = 1", " = 0"]


def test_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"few_shot.count is 9, and there are 8 rows"):
        prompts(tmp_path, {"count": 9})
    with pytest.raises(DataError, match=r"for one of the rows only 5 are left"):
        prompts(tmp_path, {"count": 6, "source": "asked.jsonl"})


def test_several_turns_cannot_be_shown_as_text(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Bye"},
    ]  # fmt: skip
    write_rows(tmp_path / "turns.jsonl", [{"messages": turns}, {"messages": turns[2:]}])
    few_shot = {"count": 1, "source": "turns.jsonl", "shown": "text"}
    dataset = {"source": "turns.jsonl", "format": "messages"}
    with pytest.raises(DataError, match="needs one question"):
        prompts(tmp_path, few_shot, dataset=dataset)


def test_rows_are_skipped_and_limited(tmp_path: Path) -> None:
    write_rows(tmp_path / "asked.jsonl", ROWS)
    made = make(tmp_path, {**BLOCK, "skip": 2, "limit": 3})
    assert made.column("asked", "answer") == ["It is 4", "It is 6", "It is 8"]
    with pytest.raises(DataError, match="benchmark asked: skip is 6"):
        make(tmp_path, {**BLOCK, "skip": 6})
