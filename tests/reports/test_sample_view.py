"""Samples whose figures are better when smaller, and of which a part was scored."""

from __future__ import annotations

from pathlib import Path

from evalsuite.figures import GENERATION
from evalsuite.generation import Answer
from evalsuite.results import write_task
from reports.example_values import read_answers
from reports.sample_view import _answer_pane, _change
from tests.evalsuite.conftest import make_example


def _written(folder: Path, edits: list[float], *, extracting: bool) -> Path:
    examples = [make_example(i, range(3, 9), 3) for i in range(len(edits))]
    extracted = {"extracted": ["42", ""], "extraction_found": [True, False]}
    write_task(
        folder / "answers.parquet",
        examples,
        [Answer(text=f"It is {i}.", token_ids=(4, 2), finished=True) for i in range(len(edits))],
        figures={"ter": GENERATION["ter"], "rouge1": GENERATION["rouge1"]},
        scores={"ter": edits, "rouge1": edits},
        statistics={"ter": [[edit, 1.0] for edit in edits]},
        conditions={"data": "test"},
        extracted=extracted if extracting else None,
    )
    return folder


def test_fewer_edits_are_an_improvement(tmp_path: Path) -> None:
    base = read_answers(_written(tmp_path / "base", [0.5, 0.5], extracting=False), "answers")
    adapter = read_answers(_written(tmp_path / "adapter", [0.2, 0.9], extracting=False), "answers")
    assert [_change(base, adapter, "ter", i) for i in (0, 1)] == ["improved", "regressed"]
    assert [_change(base, adapter, "rouge1", i) for i in (0, 1)] == ["regressed", "improved"]


def test_what_was_scored_is_told_beside_an_answer(tmp_path: Path) -> None:
    answers = read_answers(_written(tmp_path, [0.5, 0.5], extracting=True), "answers")
    notes = [_answer_pane("Base", "base", answers, i).note for i in (0, 1)]
    assert notes == ["2 tokens; scored: 42", "2 tokens; nothing extracted"]
    whole = read_answers(_written(tmp_path, [0.5, 0.5], extracting=False), "answers")
    assert _answer_pane("Base", "base", whole, 0).note == "2 tokens"
