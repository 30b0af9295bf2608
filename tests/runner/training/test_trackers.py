"""Trackers: what is logged in each, that an interrupted run continues, and what is missing.

The real packages are used where they are installed (docs/trackers.md); stand-ins everywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from runner.base_model.loaded_model import load_model, quiet_libraries
from runner.base_model.model_source import find_model
from runner.commands.validate import validate
from runner.errors import MachineError
from runner.progress import Progress
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training import trackers
from runner.training.trackers import check_trackers, conclude, missing_trackers, tracked
from runner.training.train_adapter import train_adapter

STAND_INS = Path(__file__).parent / "stand_ins"
EXTRAS = ("wandb", "mlflow", "trackio")
FIGURES = {"base/test.loss": 1.5, "adapter/test.loss": 0.5, "difference/test.loss": -1.0}
LOGGED = {
    *("train/loss", "train/grad_norm", "train/learning_rate"),
    *("train/tokens_per_second", "train/padding", "train/supervised", "train/peak_memory_bytes"),
}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """The stand-in of a tracker, fresh; what is installed comes after it."""
    before = {name: sys.modules.pop(name) for name in EXTRAS if name in sys.modules}

    def take(name: str) -> Any:
        monkeypatch.syspath_prepend(str(STAND_INS))
        return importlib.import_module(name)

    yield take
    for name in EXTRAS:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.fixture
def train(tmp_path: Path, tiny_recipe: dict[str, Any]) -> Callable[..., None]:
    """Train with these trackers into ``run``; KeyboardInterrupt after step ``stop``."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 9, (12, 20), generator=generator).tolist()
    rows = Dataset.from_list([{"input_ids": row, "labels": [-100] * 4 + row[4:]} for row in ids])
    quiet_libraries()

    def run(*names: str, stop: int | None = None) -> None:
        training = {**tiny_recipe["training"], "trackers": list(names), "max_steps": 8}
        training |= {"validate_every": 4, "checkpoint_every": 4}
        recipe = Recipe.model_validate({**tiny_recipe, "training": training})
        loaded = load_model(
            recipe, find_model(recipe.model.base, None, folder=Path("/")), device="cpu"
        )
        steps: list[int] = []

        def validate(*_: Any) -> float:
            steps.append(1)
            if stop is not None and 4 * len(steps) > stop:
                raise KeyboardInterrupt
            return 1.25

        folder = RunFolder(tmp_path / "run")
        folder.path.mkdir(exist_ok=True)
        train_adapter(recipe, loaded, rows, folder, progress=Progress(), validate=validate)

    return run


def conclude_in(folder: Path, name: str, said: list[str], *, digest: str = "PASS abc") -> None:
    conclude(
        [name],
        {"name": "tiny"},
        folder,
        verdict="PASS",
        digest=digest,
        figures=FIGURES,
        step=8,
        announce=said.append,
    )


# What is missing


def test_a_missing_tracker_is_named_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_recipe: dict[str, Any],
    write_recipe: Any,
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name != "tensorboard" else 1)
    names = ["tensorboard", *EXTRAS]
    expected = [
        f"training.trackers: {name} is not installed here: pip install 'proofbox[{name}]'"
        for name in EXTRAS
    ]
    assert missing_trackers(names) == expected
    with pytest.raises(MachineError, match=r"(?s)proofbox\[wandb\].*proofbox\[mlflow\]"):
        check_trackers(names)
    check_trackers(["tensorboard"])
    training = {**tiny_recipe["training"], "trackers": ["tensorboard", "wandb"]}
    path = write_recipe({**tiny_recipe, "training": training})
    assert validate([path]) == 0  # the recipe itself has no fault
    assert capsys.readouterr().out == f"{path}: valid\n  {expected[0]}\n"


def test_every_tracker_has_an_extra() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    for name in trackers.TRACKERS:
        assert f'\n{name} = ["{name}>=' in text or f'"{name}>=' in text.partition("optional")[0]


# What each is told


def test_tensorboard_continues_without_the_steps_that_are_made_again(
    train: Any, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt):
        train("tensorboard", stop=4)
    train("tensorboard")
    said: list[str] = []
    conclude_in(tmp_path / "run", "tensorboard", said)
    events = EventAccumulator(str(tmp_path / "run" / "events")).Reload()
    # Nothing that transformers counts with a whole step for one example: epoch, samples per second.
    logged = {*LOGGED, "train/train_loss", "validation/loss", *FIGURES}
    assert set(events.Tags()["scalars"]) == logged
    assert [point.step for point in events.Scalars("train/loss")] == [2, 4, 6, 8]
    assert [(p.step, p.value) for p in events.Scalars("validation/loss")] == [(4, 1.25), (8, 1.25)]
    assert [(p.step, p.value) for p in events.Scalars("adapter/test.loss")] == [(8, 0.5)]
    assert said == []


def test_wandb_is_told_everything_and_continued(
    train: Any, stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(variable, raising=False)
    wandb = stand_in("wandb")
    with pytest.raises(KeyboardInterrupt):
        train("wandb", stop=4)
    train("wandb")
    conclude_in(tmp_path / "run", "wandb", [])
    opened = [call[1] for call in wandb.calls if call[0] == "init"]
    assert len({options["id"] for options in opened}) == 1
    assert [options["resume"] for options in opened] == ["allow"] * 3
    assert (opened[0]["project"], opened[0]["name"]) == ("proofbox", "tiny run")
    assert opened[0]["config"]["lora"]["r"] == 4
    assert opened[0]["dir"] == str(tmp_path / "run")
    logs = [call[1] for call in wandb.calls if call[0] == "log"]
    assert steps_of(logs, "train/loss") == [2, 4, 6, 6, 8]  # 6 was made again after the checkpoint
    assert steps_of(logs, "validation/loss") == [4, 8]
    assert set().union(*logs) >= LOGGED
    ends = [call[1:] for call in wandb.calls if call[0] == "finish"]
    assert [code for code, _ in ends] == [130, 0, 0]
    assert ends[-1][1] == {"verdict": "PASS", **FIGURES}


def steps_of(logs: list[dict[str, Any]], name: str) -> list[int]:
    return [values["train/global_step"] for values in logs if name in values]


def test_wandb_without_a_login_is_told_before_a_step(
    train: Any, stand_in: Any, tmp_path: Path
) -> None:
    stand_in("wandb").logged_in = False
    with pytest.raises(MachineError, match=r"wandb login.*WANDB_MODE=offline"):
        train("wandb")
    assert not (tmp_path / "run" / "adapter").exists()


def test_mlflow_is_told_everything_and_continued(
    train: Any, stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    mlflow = stand_in("mlflow")
    with pytest.raises(KeyboardInterrupt):
        train("mlflow", stop=4)
    train("mlflow")
    conclude_in(tmp_path / "run", "mlflow", [])
    started = [call[1:] for call in mlflow.calls if call[0] == "start"]
    assert started == [(None, "tiny run"), ("run-0", "tiny run"), ("run-0", "tiny run")]
    assert mlflow.calls[0] == ("experiment", "mine")
    described = [call[1] for call in mlflow.calls if call[0] == "params"]
    assert all(len(batch) <= 10 for batch in described)  # the server takes no more at once
    params = {key: value for batch in described for key, value in batch.items()}
    assert params["lora.r"] == "4"
    assert params["training.trackers"] == '["mlflow"]'
    assert max(map(len, params.values())) == 20  # cut to what it allows
    metrics = [call[1:] for call in mlflow.calls if call[0] == "metrics"]
    assert [step for step, values in metrics if "loss" in values] == [2, 4, 6, 6, 8]
    assert [step for step, values in metrics if "validation/loss" in values] == [4, 8]
    assert metrics[-1] == (8, FIGURES)
    assert ("tag", "verdict", "PASS") in mlflow.calls
    assert [call[1] for call in mlflow.calls if call[0] == "end"] == [
        *("KILLED", "FINISHED", "FINISHED")
    ]


def test_a_run_that_mlflow_lost_is_begun_anew(train: Any, stand_in: Any) -> None:
    mlflow = stand_in("mlflow")
    with pytest.raises(KeyboardInterrupt):
        train("mlflow", stop=4)
    mlflow.runs.clear()
    train("mlflow")
    assert [call[1] for call in mlflow.calls if call[0] == "start"] == [None, None]


def test_trackio_is_told_everything_and_continued(
    train: Any,
    stand_in: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRACKIO_PROJECT", raising=False)
    trackio = stand_in("trackio")
    with pytest.raises(KeyboardInterrupt):
        train("trackio", stop=4)
    train("trackio")
    conclude_in(tmp_path / "run", "trackio", [])
    opened = [call[1] for call in trackio.calls if call[0] == "init"]
    assert len({options["name"] for options in opened}) == 1
    assert opened[0]["name"].startswith("tiny-run-")
    assert [options["resume"] for options in opened] == ["allow"] * 3
    assert (opened[0]["project"], opened[0]["config"]["lora"]["r"]) == ("proofbox", 4)
    logs = [call[1] for call in trackio.calls if call[0] == "log"]
    assert steps_of(logs, "train/loss") == [2, 4, 6, 6, 8]
    assert steps_of(logs, "validation/loss") == [4, 8]
    assert set().union(*logs) >= LOGGED
    assert logs[-1] == {"verdict": "PASS", **FIGURES, "train/global_step": 8}
    assert [call[0] for call in trackio.calls].count("finish") == 3
    assert capsys.readouterr().out == ""  # standard output is the command's own


# Opening and closing


class Noted:
    """A tracker that notes what it is asked."""

    identity: str | None = "known"
    place = "here"
    calls: list[tuple[Any, ...]]

    def __init__(self, run: trackers.TrackedRun) -> None:
        if run.folder.name == "unreachable":
            raise MachineError("nobody is there")
        self.calls.append(("open", run.name, run.identity, run.after))

    def callback(self) -> Any:
        return "its callback"

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append(("log", values, step))

    def conclude(self, verdict: str, figures: Mapping[str, float], step: int) -> None:
        self.calls.append(("conclude", verdict, figures, step))

    def close(self, *, status: str) -> None:
        self.calls.append(("close", status))


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    monkeypatch.setitem(trackers.TRACKERS, "wandb", f"{__name__}:Noted")
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Noted, "calls", calls, raising=False)
    return calls


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")],
)
def test_a_tracker_is_closed_however_training_ends(
    noted: list[tuple[Any, ...]], tmp_path: Path, error: type[BaseException] | None, status: str
) -> None:
    said: list[str] = []

    def follow() -> None:
        with tracked(["wandb"], {"name": "r"}, tmp_path, after=3, announce=said.append) as opened:
            assert opened.callbacks == ["its callback"]
            opened.log({"validation/loss": 1.0}, 4)
            if error is not None:
                raise error

    if error is None:
        follow()
    else:
        with pytest.raises(error):
            follow()
    assert noted == [
        ("open", f"r {tmp_path.name}", None, 3),
        ("log", {"validation/loss": 1.0}, 4),
        ("close", status),
    ]
    assert said == ["  wandb: here"]
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"wandb": "known"}


def test_a_verdict_is_told_once(noted: list[tuple[Any, ...]], tmp_path: Path) -> None:
    said: list[str] = []
    conclude_in(tmp_path, "wandb", said)
    assert noted == []  # nothing was tracked: the training is older, or it was elsewhere
    (tmp_path / "trackers.json").write_text('{"wandb": "known"}')
    for digest in ("PASS abc", "PASS abc", "FAIL def"):
        conclude_in(tmp_path, "wandb", said, digest=digest)
    assert [call[0] for call in noted] == ["open", "conclude", "close"] * 2
    assert noted[0] == ("open", f"tiny {tmp_path.name}", "known", 8)
    assert noted[1] == ("conclude", "PASS", FIGURES, 8)
    assert said == []


def test_a_tracker_that_is_gone_costs_no_verdict(
    noted: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    folder = tmp_path / "unreachable"
    folder.mkdir()
    (folder / "trackers.json").write_text('{"wandb": "known"}')
    said: list[str] = []
    conclude_in(folder, "wandb", said)
    assert said == ["  the verdict is not in wandb: nobody is there"]
    assert noted == []
    said.clear()
    conclude_in(folder, "wandb", said)
    assert said  # asked again, it is tried again


# The real packages, without a network


def real(name: str) -> Any:
    """The installed package; the test is skipped where there is none."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(name)


def test_real_wandb_offline(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    real("wandb")
    with pytest.raises(KeyboardInterrupt):
        train("wandb", stop=4)
    train("wandb")
    conclude_in(tmp_path / "run", "wandb", [])
    identity = json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"]
    files = list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{identity}*/*.wandb"))
    written = b"".join(file.read_bytes() for file in files)
    assert files
    for name in (*LOGGED, "validation/loss", "verdict", "adapter/test.loss"):
        assert name.encode() in written, name


def test_real_mlflow_in_a_folder(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = real("mlflow")
    with pytest.raises(KeyboardInterrupt):
        train("mlflow", stop=4)
    client = mlflow.MlflowClient()
    identity = json.loads((tmp_path / "run" / "trackers.json").read_text())["mlflow"]
    assert client.get_run(identity).info.status == "KILLED"
    train("mlflow")
    conclude_in(tmp_path / "run", "mlflow", [])
    found = client.get_run(identity)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "tiny run"
    assert found.data.params["lora.r"] == "4"
    assert found.data.tags["verdict"] == "PASS"
    assert found.data.metrics["adapter/test.loss"] == 0.5
    losses = sorted(point.step for point in client.get_metric_history(identity, "loss"))
    assert losses == [2, 4, 6, 6, 8]
    assert {"tokens_per_second", "padding", "peak_memory_bytes"} <= set(found.data.metrics)


def test_real_trackio(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = real("trackio")
    with pytest.raises(KeyboardInterrupt):
        train("trackio", stop=4)
    train("trackio")
    conclude_in(tmp_path / "run", "trackio", [])
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    identity = json.loads((tmp_path / "run" / "trackers.json").read_text())["trackio"]
    logs = storage.get_logs("proofbox", identity)
    assert trackio.__name__ == "trackio"
    assert steps_of(logs, "train/loss") == [2, 4, 6, 6, 8]
    assert set().union(*logs) >= LOGGED
    assert logs[-1]["verdict"] == "PASS"
