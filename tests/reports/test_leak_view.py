from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_run import HOSTILE, TASK

from evalsuite.catalogue import is_clean
from evalsuite.evidence import gather_evidence
from evalsuite.gates import judge
from evalsuite.record_files import write_evidence, write_verdict
from evalsuite.records import Gate
from reports.benchmark_view import task_views
from reports.comparison import compare_runs
from reports.errors import ReportError
from reports.leak_view import LeakView, leak_view
from reports.loss_view import partition_losses
from reports.model_card import model_card
from reports.pages import html_page
from reports.run_report import run_report
from reports.stored_run import StoredRun, read_run

PAIR = {"kind": "near", "by": "prompt", "similarity": 0.87}
COUNT = {
    "kind": "near", "by": "prompt", "first": "train", "second": "test", "pairs": 3,
    "first_rows": 2, "second_rows": 3, "policy": "warn", "at_least": False,
}  # fmt: skip


def leak(folder: Path, leaked: dict[str, dict[str, str]], pairs: Sequence[str] = ()) -> StoredRun:
    """Let examples of a made-up run leak, and pair rows with these texts."""
    say_partition(folder / "evaluation")
    old = read_run(folder).evidence
    evidence = gather_evidence(
        folder=folder / "evaluation",
        base=True,
        identity=old.identity,
        base_digest=old.base_digest,
        adapter_digest=old.adapter_digest,
        leaked=leaked,
    )
    write_evidence(evidence, folder / "evidence.json")
    gate = Gate(metric="test.clean.loss", claim="superior")
    write_verdict(judge([gate], evidence), folder / "verdict.json")
    write_lists(folder, leaked, pairs)
    return read_run(folder)


def say_partition(folder: Path) -> None:
    """The made-up answers do not say which partition they are of."""
    import pyarrow.parquet as pq

    for path in folder.glob(f"*/{TASK}.parquet"):
        table = pq.ParquetFile(path).read()
        values = json.loads(table.schema.metadata[b"proofbox"])
        values["conditions"]["data"] = "tasks"
        pq.write_table(table.replace_schema_metadata({"proofbox": json.dumps(values)}), path)


def write_lists(folder: Path, leaked: dict[str, dict[str, str]], pairs: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(p, e, 0, k) for p, ids in leaked.items() for e, k in ids.items()]
    names = ("partition", "example_id", "row", "kind")
    columns = {n: [row[i] for row in rows] for i, n in enumerate(names)}
    pq.write_table(pa.table(columns), folder / "listings" / "leaked.parquet")
    listed = [
        {
            **PAIR,
            **{f"{side}_{key}": value for side, other in (("first", "train"), ("second", "test"))
               for key, value in (("partition", other), ("row", i), ("text", text))},
        }
        for i, text in enumerate(pairs)
    ]  # fmt: skip
    if listed:
        pq.write_table(pa.Table.from_pylist(listed), folder / "listings" / "leaks.parquet")


def near_ids(numbers: range, partition: str = "test") -> dict[str, str]:
    return {f"{partition}-{number:04d}": "near" for number in numbers}


@pytest.fixture
def leaking(make_run: Callable[..., Path]) -> StoredRun:
    leaked = {
        "test": {**near_ids(range(1, 40)), "test-0000": "exact", "test-0050": "unsettled"},
        "tasks": near_ids(range(12), "task"),
    }
    return leak(make_run(), leaked, ["one text", *HOSTILE])


def page(view: LeakView) -> str:
    return html_page("leaks.html.jinja", leaks=view)


def test_figures_stand_next_to_those_on_all_rows(leaking: StoredRun) -> None:
    test = next(part for part in partition_losses(leaking) if part.name == "test")
    labels = [row.label for row in test.rows]
    assert labels[:4] == ["Loss", "Loss, clean rows", "Perplexity", "Perplexity, clean rows"]
    assert test.rows[0].adapter != test.rows[1].adapter
    assert test.examples == "240 examples"
    (task,) = task_views(leaking.evidence, leaking.verdict)
    assert [row.label for row in task.rows][:2] == ["Tests passed", "Tests passed, clean rows"]
    assert len(task.churn) == 3
    others = [part for part in partition_losses(leaking) if part.name != "test"]
    assert [part.name for part in others] == ["validation"]
    assert not any("clean" in row.label for row in others[0].rows)


def test_the_section_says_what_leaks(leaking: StoredRun) -> None:
    view = leak_view(leaking)
    assert view.sentences[:2] == (
        "test: 41 of 240 examples leak; the others are its clean rows.",
        f"{TASK}: 12 of 240 examples leak; the others are its clean rows.",
    )
    assert "not settled" in view.sentences[2]
    assert view.marked is not None
    assert view.marked.rows == (("tasks", "0", "12", "0"), ("test", "1", "39", "1"))
    assert view.scores is not None
    first, second = view.scores.rows[:2]
    assert first[:4] == ("test: Loss", "nats per token", "all", "240")
    assert second[:4] == ("test: Loss", "nats per token", "clean", "199")
    assert len(view.scores.rows) == 2 * (4 + 6)
    html = page(view)
    assert "Figures on all rows and on the clean rows" in html
    assert "one text" in html and "similarity 0.87" in html


def test_counts_of_pairs(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    data = json.loads((folder / "data.json").read_text())
    data["leaks"] = {**data["leaks"], "counts": [COUNT], "dropped": 2, "listed": 1}
    (folder / "data.json").write_text(json.dumps(data))
    view = leak_view(leak(folder, {}, ["a text"]))
    assert view.found.counts is not None
    assert "3 pairs found" in view.found.summary
    assert "2 rows left out of train" in page(view)


def test_hostile_rows_are_inert(leaking: StoredRun) -> None:
    html = page(leak_view(leaking))
    assert "<script>alert" not in html and "<img" not in html
    assert "&lt;script&gt;alert(1)" in html
    for sign in ("\x1b", "\u202e", "\u200b", "\x00"):
        assert sign not in html
    assert "{{ 7 * 7 }}" in html


def test_a_run_in_which_nothing_leaks_says_so(make_run: Callable[..., Path]) -> None:
    run = leak(make_run(), {})
    view = leak_view(run)
    assert view.sentences == (
        "No evaluated row leaks: figures on the clean rows are those on all rows.",
    )
    assert view.scores is None and view.marked is None
    assert "<table" not in page(view)
    assert not any("clean" in row.label for part in partition_losses(run) for row in part.rows)
    assert run.verdict.gates[0].verdict == "PASS"
    assert "clean" in run_report(run)  # the gate's own name


def test_a_run_whose_leaks_are_not_known_says_so(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run())
    run = replace(run, evidence=replace(run.evidence, leaked=()))
    assert leak_view(run).sentences == (
        "The evidence does not say which of the evaluated rows leak.",
    )


def test_a_partition_that_leaks_altogether(make_run: Callable[..., Path]) -> None:
    run = leak(make_run(), {"test": near_ids(range(240))})
    view = leak_view(run)
    assert view.sentences[0] == (
        "test: all 240 examples leak, so there is no figure on clean rows."
    )
    assert view.scores is None
    assert run.verdict.verdict == "ERROR"
    assert "all 240 examples of test leak" in run_report(run)


def test_a_damaged_list_is_an_error(leaking: StoredRun) -> None:
    (leaking.folder / "listings" / "leaked.parquet").write_bytes(b"no")
    with pytest.raises(ReportError, match=r"leaked\.parquet: cannot be read"):
        leak_view(leaking)


def test_report_and_card_of_a_leaking_run(leaking: StoredRun) -> None:
    html = run_report(leaking)
    assert html.count("Loss, clean rows") >= 1
    assert "test.clean" in html  # the gate
    assert "clean rows" in model_card(leaking.folder, final=False)


def test_runs_are_compared_on_all_rows(make_run: Callable[..., Path]) -> None:
    """Which rows are clean depends on the training set, so those figures are not compared."""
    one = make_run(run_id="aaaa11112222", seed=1)
    other = make_run(run_id="bbbb11112222", seed=2)
    leak(other, {"test": near_ids(range(20))})
    leak(one, {})
    comparison = compare_runs([one, other])
    assert comparison.excluded == ()
    assert len(comparison.metrics) == 8 + 6
    assert not any(is_clean(metric.metric) for metric in comparison.metrics)
