"""What `run`, `gate` and `compare` print."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_run import TASK
from rich.console import Console, RenderableType

from evalsuite.record_files import read_verdict
from evalsuite.records import Gate, Looks
from reports.comparison import compare_runs
from reports.terminal import comparison_table, verdict_panel

MakeRun = Callable[..., Path]


def printed(renderable: RenderableType, *, width: int = 120, encoding: str = "utf-8") -> str:
    stream = io.BytesIO()
    file = io.TextIOWrapper(stream, encoding=encoding)
    Console(file=file, width=width, highlight=False, force_terminal=False).print(renderable)
    file.flush()
    return stream.getvalue().decode(encoding)


def test_verdict_panel_names_the_decision_and_every_gate(run_folder: Path) -> None:
    text = printed(verdict_panel(read_verdict(run_folder / "verdict.json")))
    assert "PASS - RELEASE" in text
    assert "All 3 gates pass." in text
    assert f"{TASK}.tests_passed" in text
    assert "floor at 0.5" in text
    assert f"adapter {read_verdict(run_folder / 'verdict.json').adapter_digest}" in text


def test_verdict_panel_tells_looks_warnings_and_what_is_compared_with(run_folder: Path) -> None:
    verdict = read_verdict(run_folder / "verdict.json")
    assert "ledger" not in printed(verdict_panel(verdict))
    compared = replace(
        verdict.gates[0],
        gate=replace(verdict.gates[0].gate, against="release", first_release="allow"),
    )
    told = replace(
        verdict,
        gates=(compared,),
        looks=(Looks(group="test", count=3), Looks(group="validation", count=1)),
        warnings=("test.loss: 3 seeds of this recipe gain 0.3 on average",),
    )
    text = " ".join(printed(verdict_panel(told), width=200).split())
    assert "By the ledger: look 3 at test, look 1 at validation." in text
    assert "warning: test.loss: 3 seeds" in text
    assert "superior margin 0.05 against release first_release allow" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_fits_any_terminal(run_folder: Path, make_run: MakeRun, encoding: str) -> None:
    printed(verdict_panel(read_verdict(run_folder / "verdict.json")), encoding=encoding)
    other = make_run(name="other", seed=8)
    printed(comparison_table(compare_runs([run_folder, other])), encoding=encoding, width=60)


def test_verdict_without_gates_or_numbers(make_run: MakeRun) -> None:
    verdict = read_verdict(make_run(gates=()) / "verdict.json")
    assert "No gate is declared" in printed(verdict_panel(verdict))
    gates = (Gate(metric="test.nothing", claim="superior"),)
    text = printed(verdict_panel(read_verdict(make_run(gates=gates) / "verdict.json")))
    assert "ERROR" in text
    assert "is missing from the evidence" in text


def test_markup_and_control_characters_are_text(run_folder: Path) -> None:
    verdict = read_verdict(run_folder / "verdict.json")
    text = printed(verdict_panel(replace(verdict, reason="[red]x[/red] \x1b[31my")))
    assert "[red]x[/red] ⟨U+001B⟩[31my" in text


def test_comparison_shows_differences_best_and_reasons(make_run: MakeRun) -> None:
    found = compare_runs(
        [
            make_run(name="first", run_id="aaaaaaaaaaaa"),
            make_run(name="better", run_id="bbbbbbbbbbbb", seed=9, gain=1.5, rank=64),
            make_run(name="elsewhere", code_version="2" * 64),
            make_run(name="longer", max_new_tokens=256),
            make_run(name="seed", run_id="dddddddddddd", seed=11, recipe_seed=1),
        ]
    )
    text = printed(comparison_table(found))
    assert "lora.r" in text
    line = next(line for line in text.splitlines() if line.startswith(" test.loss"))
    assert "best" in line
    assert "not compared: elsewhere: its code version is 222222222222" in text
    assert "not compared: test-functions of longer: first and longer differ in decoding" in text
    assert "2 seeds of one recipe" in text
    assert "paired by example" in " ".join(text.split())
