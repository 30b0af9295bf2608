"""Runs side by side: paired differences, refusals, and nothing best that noise could have made."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_up_run import TASK

from reports.comparison import ComparedMetric, Comparison, compare_runs, recipe_differences
from reports.errors import ReportError

MakeRun = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def comparison(make_run: MakeRun) -> Comparison:
    return compare_runs(
        [
            make_run(name="first", run_id="aaaaaaaaaaaa"),
            make_run(name="better", run_id="bbbbbbbbbbbb", seed=9, gain=1.5, rank=64),
            make_run(name="noise", run_id="cccccccccccc", seed=10),
        ]
    )


def metric(comparison: Comparison, name: str) -> ComparedMetric:
    return next(m for m in comparison.metrics if m.metric == name)


def test_only_what_differs_in_the_recipes_is_told(comparison: Comparison) -> None:
    (difference,) = comparison.recipe_differences
    assert difference.key == "lora.r"
    assert difference.values == ("16", "64", "16")


def test_recipe_differences_of_every_kind_of_value() -> None:
    found = recipe_differences(
        [
            {"name": "a", "seed": 1, "lora": {"r": 8, "targets": ["q", "v"]}, "same": [1, 2]},
            {"name": "b", "seed": 1.0, "lora": {"r": None, "targets": ["q"], "on": True},
             "same": [1, 2]},
        ]
    )  # fmt: skip
    assert {d.key: d.values for d in found} == {
        "lora.r": ("8", "null"),
        "lora.targets": ("[q, v]", "[q]"),
        "lora.on": ("\N{EN DASH}", "true"),
    }


def test_planted_difference_is_best_and_paired(comparison: Comparison) -> None:
    loss = metric(comparison, "test.loss")
    assert [value.best for value in loss.values] == [False, True, False]
    assert loss.values[0].difference is None
    difference = loss.values[1].difference
    assert difference is not None
    assert difference.high < 0.0


def test_noise_is_never_best(comparison: Comparison, make_run: MakeRun) -> None:
    passed = metric(comparison, f"{TASK}.tests_passed")
    assert [value.best for value in passed.values] == [False, False, False]
    folders = [make_run(name=f"noise-{seed}", seed=seed, examples=120) for seed in range(30, 36)]
    for compared in compare_runs(folders).metrics:
        assert not any(value.best for value in compared.values), compared.metric


def test_identical_runs_have_no_best(make_run: MakeRun) -> None:
    folders = [make_run(run_id="1" * 12, seed=3), make_run(run_id="2" * 12, seed=3)]
    for compared in compare_runs(folders).metrics:
        assert not any(value.best for value in compared.values), compared.metric


def test_difference_is_that_of_the_stored_examples(make_run: MakeRun) -> None:
    first = make_run(name="one", seed=3)
    second = make_run(name="two", seed=4)
    tables = [
        pq.read_table(f / "evaluation" / "adapter" / "loss.parquet").to_pylist()
        for f in (first, second)
    ]
    rows = [[r for r in table if r["partition"] == "test"] for table in tables]
    nll = [sum(r["nll"] for r in part) for part in rows]
    tokens = sum(r["tokens"] for r in rows[0])
    found = metric(compare_runs([first, second]), "test.loss").values[1].difference
    assert found is not None
    assert found.difference == pytest.approx((nll[1] - nll[0]) / tokens)
    assert found.low < found.difference < found.high


def test_labels_are_unique(make_run: MakeRun) -> None:
    folders = [make_run(run_id="1" * 12), make_run(run_id="2" * 12), make_run(name="other")]
    labels = [run.label for run in compare_runs(folders).runs]
    assert labels == ["quickstart/1111111", "quickstart/2222222", "other"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"code_version": "2" * 64}, "its code version is 222222222222, the baseline's is 1"),
        ({"examples": 239},
         "nothing of it can be paired with the baseline's; test: quickstart and other differ at "
         "example 239: test-0239 and none"),
    ],
)  # fmt: skip
def test_a_run_that_shares_nothing_is_refused_with_the_reason(
    make_run: MakeRun, fields: dict[str, object], reason: str
) -> None:
    found = compare_runs([make_run(), make_run(name="other", **fields), make_run(name="third")])
    assert [run.label for run in found.runs] == ["quickstart", "third"]
    (excluded,) = found.excluded
    assert excluded.label == "other"
    assert excluded.reason.startswith(reason)
    assert all(len(m.values) == 2 for m in found.metrics)


def test_other_decoding_of_a_task_refuses_that_task_alone(make_run: MakeRun) -> None:
    found = compare_runs([make_run(), make_run(name="longer", max_new_tokens=256, seed=9)])
    assert found.excluded == ()
    (refused,) = found.refused
    assert (refused.label, refused.group) == ("longer", TASK)
    assert refused.reason.startswith("quickstart and longer differ in decoding: ")
    for compared in found.metrics:
        of_task = compared.metric.startswith(TASK)
        assert (compared.values[1].difference is None) == of_task, compared.metric
        assert compared.values[1].measurement is not None
        assert not (of_task and any(value.best for value in compared.values))


def test_nothing_is_best_of_runs_that_cannot_all_be_compared(make_run: MakeRun) -> None:
    runs = [make_run(), make_run(name="better", adapter_rate=0.99, seed=9)]
    name = f"{TASK}.tests_passed"
    assert [v.best for v in metric(compare_runs(runs), name).values] == [False, True]
    longer = make_run(name="longer", max_new_tokens=256, seed=10)
    assert not any(v.best for v in metric(compare_runs([*runs, longer]), name).values)


def test_other_tokens_refuse_the_losses_alone(make_run: MakeRun) -> None:
    found = compare_runs([make_run(), make_run(name="other", tokens_seed=2)])
    assert {refused.group for refused in found.refused} == {"test", "validation"}
    assert "supervised tokens" in found.refused[0].reason
    passed = metric(found, f"{TASK}.tests_passed")
    assert passed.values[1].difference is not None


def test_data_that_the_evaluation_does_not_touch_may_differ(make_run: MakeRun) -> None:
    """More rows to train on: the usual reason for a next adapter."""
    found = compare_runs([make_run(), make_run(name="more", data_digest="a" * 64, seed=9)])
    assert (found.excluded, found.refused) == ((), ())


def test_seeds_of_one_recipe_are_told_from_recipes(make_run: MakeRun) -> None:
    seeds = [
        make_run(name="small", run_id=f"{n}" * 12, seed=n, recipe_seed=n, gain=gain)
        for n, gain in ((1, 1.30), (2, 1.36), (3, 1.33))
    ]
    other = make_run(name="wide", rank=64, seed=9, gain=1.38)
    best = make_run(name="best", rank=128, seed=10, gain=1.7)
    found = compare_runs([*seeds, other, best])
    (group,) = found.seeds
    assert group.labels == ("small/1111111", "small/2222222", "small/3333333")
    spread = group.spread("test.loss")
    assert spread is not None
    values = [value.measurement.value for value in metric(found, "test.loss").values[:3]
              if value.measurement is not None]  # fmt: skip
    assert spread.spread == pytest.approx(statistics.stdev(values))
    assert 0.02 < spread.seed_deviation < 0.04
    # Another recipe's gain of 0.05 nats clears its interval, and is less than seeds differ by.
    wide, far = (metric(found, "test.loss").values[place] for place in (3, 4))
    assert wide.difference is not None and wide.difference.high < 0.0
    assert (wide.seed_noise, far.seed_noise) == (True, False)


def test_one_seed_tells_nothing_of_seeds(make_run: MakeRun) -> None:
    found = compare_runs([make_run(), make_run(name="other", rank=64, recipe_seed=3)])
    assert found.seeds == ()
    assert not any(v.seed_noise for compared in found.metrics for v in compared.values)


def test_one_run_is_no_comparison(run_folder: Path) -> None:
    with pytest.raises(ReportError, match="at least two runs"):
        compare_runs([run_folder])


def test_the_same_run_twice_is_refused(run_folder: Path) -> None:
    with pytest.raises(ReportError, match="given twice"):
        compare_runs([run_folder, run_folder])


def test_comparing_imports_neither_torch_nor_pandas(make_run: MakeRun) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from rich.console import Console\n"
        "from reports.comparison import compare_runs\n"
        "from reports.terminal import comparison_table\n"
        "Console().print(comparison_table(compare_runs([Path(a) for a in sys.argv[1:]])))\n"
        "heavy = ('torch', 'pandas', 'transformers', 'datasets', 'evaluate', 'trl', 'peft')\n"
        "sys.exit(' '.join(m for m in heavy if m in sys.modules) or 0)"
    )
    folders = [str(make_run(name="one")), str(make_run(name="two", seed=8))]
    done = subprocess.run(
        [sys.executable, "-c", program, *folders],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
