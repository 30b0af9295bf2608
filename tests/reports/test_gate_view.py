"""The gates as rows: what is drawn follows from what was measured, not from a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_run import TASK

from evalsuite.gates import judge
from evalsuite.records import Evidence, Gate
from reports.gate_view import gate_rows
from reports.stored_run import read_run


def renamed(evidence: Evidence, old: str, new: str, *, higher_is_better: bool) -> Evidence:
    """``evidence`` with a figure under ``as:`` another name."""
    return replace(
        evidence,
        measurements=tuple(
            replace(m, metric=new, higher_is_better=higher_is_better) if m.metric == old else m
            for m in evidence.measurements
        ),
        differences=tuple(
            replace(d, metric=new) if d.metric == old else d for d in evidence.differences
        ),
    )


@pytest.mark.parametrize(("higher", "side"), [(False, "below"), (True, "above")])
def test_the_side_that_passes_is_the_better_side_of_a_renamed_figure(
    make_run: Callable[..., Path], higher: bool, side: str
) -> None:
    evidence = renamed(
        read_run(make_run()).evidence, f"{TASK}.chrf", f"{TASK}.edits", higher_is_better=higher
    )
    gate = Gate(metric=f"{TASK}.edits", claim="non_inferior", margin=10.0)
    (row,) = gate_rows(judge([gate], evidence), evidence)
    assert row.strip is not None
    assert f"wholly {side} " in row.strip
