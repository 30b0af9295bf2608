"""Looks at held-out rows are counted once each, and a ledger that was merged or damaged is told."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from evalsuite.errors import EvidenceError
from evalsuite.ledger import Look, count_looks, note_looks, read_ledger
from evalsuite.looks import with_looks
from evalsuite.records import Gate, GateResult, Verdict
from evalsuite.results import write_loss

from .test_evidence import losses, write_answers

LEDGER_FILE = "proofbox.ledger.jsonl"
LOOK = Look(
    date="2026-03-01T10:00:00Z", recipe="small", run_id="0123456789ab", partition="test",
    partition_digest="p", verdict="PASS", evidence_digest="e", gates_digest="g",
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / LEDGER_FILE


def test_there_is_no_ledger_at_first(ledger: Path) -> None:
    assert read_ledger(ledger) == ()
    assert note_looks(ledger, [LOOK]) == (LOOK,)
    assert read_ledger(ledger) == (LOOK,)


def test_the_same_evidence_judged_again_is_no_other_look(ledger: Path) -> None:
    note_looks(ledger, [LOOK])
    before = ledger.read_bytes()
    again = replace(LOOK, date="2026-04-01T10:00:00Z", verdict="FAIL")
    assert note_looks(ledger, [again]) == (LOOK,)
    assert ledger.read_bytes() == before


def test_looks_are_counted_by_partition(ledger: Path) -> None:
    others = [
        replace(LOOK, date="2026-03-02", evidence_digest="f"),
        replace(LOOK, date="2026-03-03", evidence_digest="g", recipe="another on the same rows"),
        replace(LOOK, date="2026-03-04", partition_digest="q"),
        replace(LOOK, date="2026-03-05", gates_digest="looser"),
    ]
    every = note_looks(ledger, [LOOK, *others])
    assert [count_looks(every, look.key) for look in (LOOK, *others)] == [1, 2, 3, 1, 4]
    with pytest.raises(EvidenceError, match="holds no look"):
        count_looks(every, ("r", "e", "g"))


def test_later_looks_do_not_change_which_look_it_was(ledger: Path) -> None:
    note_looks(ledger, [LOOK])
    later = replace(LOOK, date="2026-06-01T10:00:00Z", evidence_digest="a")
    every = note_looks(ledger, [later])
    assert (count_looks(every, LOOK.key), count_looks(every, later.key)) == (1, 2)


def test_a_line_is_an_entry_and_lines_are_in_order(ledger: Path) -> None:
    later = replace(LOOK, date="2026-05-01T10:00:00Z", evidence_digest="f")
    note_looks(ledger, [later])
    note_looks(ledger, [LOOK])
    lines = ledger.read_text().splitlines()
    assert [json.loads(line)["evidence_digest"] for line in lines] == ["e", "f"]
    assert lines == sorted(lines)
    # Two branches that each added a line merge by keeping both, in whichever order.
    ledger.write_text("\n".join(reversed(lines)) + "\n")
    assert read_ledger(ledger) == (LOOK, later)


@pytest.mark.parametrize(
    "line", ["<<<<<<< HEAD", "{}", "[]", '{"date": 1}', json.dumps({"date": "x", "more": "y"})]
)
def test_a_line_that_is_no_entry_is_named(ledger: Path, line: str) -> None:
    note_looks(ledger, [LOOK])
    with ledger.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(EvidenceError, match=rf"{LEDGER_FILE}:2: is no entry .* keep the lines"):
        read_ledger(ledger)


def test_runs_that_end_at_once_lose_no_look(ledger: Path) -> None:
    looks = [replace(LOOK, evidence_digest=f"{n:02}") for n in range(24)]
    threads = [threading.Thread(target=note_looks, args=(ledger, [look])) for look in looks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_ledger(ledger) == tuple(looks)


def verdict_on(metrics: list[str], evidence: str) -> Verdict:
    results = tuple(
        GateResult(
            gate=Gate(metric=metric, claim="superior"), verdict="PASS", reason="", base=None,
            adapter=None, estimate=None, bound=None, low=None, high=None, threshold=None,
            examples=0, smallest_detectable=None,
        )
        for metric in metrics
    )  # fmt: skip
    return Verdict(
        verdict="PASS", reason="", gates=results, adapter_digest="a", base_digest="b",
        evidence_digest=evidence,
    )  # fmt: skip


def test_a_verdict_tells_how_often_its_rows_were_looked_at(ledger: Path, tmp_path: Path) -> None:
    results = tmp_path / "adapter"
    write_loss(
        results / "loss.parquet", {name: losses("adapter") for name in ("test", "validation")}
    )
    write_answers(results / "answers.parquet", "adapter", conditions={"data": "test"})
    write_answers(results / "bench.parquet", "adapter", conditions={"data": "bench"})

    def looks(metrics: list[str], evidence: str) -> dict[str, int]:
        found = with_looks(
            verdict_on(metrics, evidence), ledger, results=results, recipe="small", run_id="r",
            memberships={"test": "t", "validation": "v"},
        )  # fmt: skip
        return {one.group: one.count for one in found.looks}

    # A task on the test rows is a look at the test partition, and two gates are one look.
    both = ["test.clean.loss", "answers.chrf"]
    assert looks(both, "1") == {"test": 1}
    assert looks([*reversed(both), "validation.loss"], "1") == {"test": 1, "validation": 1}
    # Other claims on the same evidence are one more try, and the first stays the first.
    assert looks(["test.loss"], "1") == {"test": 2}
    assert looks(both, "1") == {"test": 1}
    assert looks(["test.loss", "validation.loss"], "2") == {"test": 3, "validation": 2}
    # Rows that are no partition are known by their ids.
    assert looks(["bench.chrf"], "3") == {"bench": 1}
    assert looks(["bench.chrf"], "4") == {"bench": 2}
    assert len(read_ledger(ledger)) == 7
