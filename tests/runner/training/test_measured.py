"""What a training records of itself, in one session and in two."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from runner.base_model.loaded_model import load_model, quiet_libraries
from runner.base_model.model_source import find_model
from runner.errors import DataError
from runner.progress import Progress
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training.live_figures import LiveFigures, StepWork
from runner.training.measured import Measured
from runner.training.train_adapter import TrainedAdapter, read_training, train_adapter

FIGURES = {"tokens_per_second", "padding", "supervised", "peak_memory_bytes"}


@pytest.fixture
def train(
    tmp_path: Path, tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TrainedAdapter]:
    """Train for 8 steps into a folder; ``stop`` is a step after which it is interrupted."""
    monkeypatch.setattr("runner.training.sessions.BEAT_SECONDS", 0.0)
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(8, 40, (30,), generator=generator).tolist()
    ids = [torch.randint(3, 9, (length,), generator=generator).tolist() for length in lengths]
    rows = Dataset.from_list([{"input_ids": row, "labels": [-100] * 4 + row[4:]} for row in ids])
    quiet_libraries()

    def run(
        name: str,
        *,
        stop: int | None = None,
        hardware: dict[str, Any] | None = None,
        validate: Callable[[Any, int], float] | None = None,
        texts: list[str] | None = None,
    ) -> TrainedAdapter:
        training = {**tiny_recipe["training"], "max_steps": 8, "validate_every": 4}
        document = {
            **tiny_recipe,
            "training": {**training, "checkpoint_every": 3},
            "hardware": {**tiny_recipe["hardware"], **(hardware or {})},
        }
        recipe = Recipe.model_validate(document)
        source = find_model(recipe.model.base, None, folder=Path("/"))
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        progress = Progress()
        progress.bar = lambda title, **_: Bar(stop, texts)  # type: ignore[method-assign,assignment]
        loaded = load_model(recipe, source, device="cpu")
        return train_adapter(recipe, loaded, rows, folder, progress=progress, validate=validate)

    return run


class Bar:
    """A progress bar that keeps its texts, and stands for Ctrl-C after a step."""

    def __init__(self, stop: int | None, texts: list[str] | None) -> None:
        self.stop = stop
        self.texts = [] if texts is None else texts

    def __enter__(self) -> Any:
        def advance(done: int, total: int, text: str) -> None:
            self.texts.append(text)
            if done == self.stop:
                raise KeyboardInterrupt

        return advance

    def __exit__(self, *_: object) -> None:
        return None


def test_history_has_the_figures_of_its_stretch(train: Any) -> None:
    texts: list[str] = []
    record = train("run", texts=texts)
    assert [point["step"] for point in record.history] == [2, 4, 6, 8]
    for point in record.history:
        assert set(point) == {"step", "loss", "grad_norm", "learning_rate", *FIGURES}
        assert point["tokens_per_second"] > 0
        assert 0 < point["supervised"] < 1
        assert point["peak_memory_bytes"] > 1e8
    assert record.utilization is None  # a CPU has no published peak
    assert 0 < record.supervised < 1
    assert record.tokens_per_second == pytest.approx(record.tokens / record.seconds)
    assert len(texts) == 8
    assert "tokens/s" in texts[0]
    assert texts[0].endswith("left")
    assert texts[-1].endswith(", 0 s left")


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_padding_is_what_the_engine_computed_for_nothing(train: Any, layout: str) -> None:
    record = train("run", hardware={"attention": layout, "micro_batch_tokens": 4096})
    if layout == "packed":
        assert record.padding == 0
    else:
        assert 0.05 < record.padding < 0.6
        assert all(point["padding"] > 0 for point in record.history)


def test_validation_and_checkpoints_do_not_count_as_training(train: Any) -> None:
    """The planted error: a validation that takes longer than all steps halved the speed."""

    def validate(*_: Any) -> float:
        time.sleep(0.4)
        return 1.5

    record = train("run", validate=validate)
    assert record.wall_seconds - record.seconds > 0.8
    assert record.validation == ({"step": 4, "loss": 1.5}, {"step": 8, "loss": 1.5})


def test_an_interrupted_training_counts_all_its_sessions(train: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train("run", stop=5)
    record = train("run")
    assert record == read_training(RunFolder(tmp_path / "run"))
    assert [(s["first"], s["last"]) for s in record.sessions] == [(0, 5), (3, 8)]
    assert record.wall_seconds == pytest.approx(sum(s["seconds"] for s in record.sessions))
    assert record.seconds < record.wall_seconds
    straight = train("straight")
    assert record.supervised == straight.supervised
    assert record.padding == straight.padding
    assert [p["supervised"] for p in record.history] == [p["supervised"] for p in straight.history]


def measured_of(steps: int, every: int | None) -> Measured:
    ones = (1,) * steps
    work = StepWork(tokens=ones, own=ones, supervised=ones, operations=None)
    figures = LiveFigures(work, computed=lambda: 0, memory=lambda: 0, peak=None)
    return Measured(figures, validate_every=every, validate=None if every is None else lambda: 1.0)


@pytest.mark.parametrize(("last", "every"), [(10, 3), (10, 5), (7, 10), (10, None)])
def test_the_validations_that_are_left_are_those_that_come(last: int, every: int | None) -> None:
    measured = measured_of(last, every)
    for step in range(last + 1):
        due = [s for s in range(step + 1, last + 1) if measured._validation_due(s, last)]
        assert measured._validations_after(step, last) == len(due)


def test_a_gradient_that_is_no_number_ends_the_run() -> None:
    state = SimpleNamespace(global_step=1)
    logs = {"loss": 1.0, "grad_norm": float("nan"), "learning_rate": 0.1}
    with pytest.raises(DataError, match="gradient norm nan at step 1"):
        measured_of(1, None).on_log(None, state, None, logs=logs)  # type: ignore[arg-type]


class Overflowing:
    """A training whose steps in ``at`` overflow float16, logged at every step."""

    def __init__(self, at: set[int]) -> None:
        self.measured = measured_of(40, None)
        self.measured.was_skipped = lambda: self.step in at
        self.step = 0

    def go_on(self) -> None:
        self.step += 1
        state: Any = SimpleNamespace(global_step=self.step, max_steps=40)
        control: Any = SimpleNamespace(should_log=True, should_save=False)
        norm = float("inf") if self.measured.was_skipped() else 0.5
        self.measured.on_step_end(None, state, control)  # type: ignore[arg-type]
        logs = {"loss": 1.0, "grad_norm": norm, "learning_rate": 0.1}
        self.measured.on_log(None, state, control, logs=logs)  # type: ignore[arg-type]


def test_steps_that_overflow_float16_are_left_out_and_told() -> None:
    training = Overflowing({1, 2, 26})
    for _ in range(30):
        training.go_on()
    assert training.measured.skipped == [1, 2, 26]
    norms = {point["step"]: point.get("grad_norm") for point in training.measured.history}
    assert norms[26] is None
    assert norms[27] == 0.5
    assert measured_of(1, None).state().keys() == training.measured.state().keys()


def test_steps_that_all_overflow_end_the_run() -> None:
    training = Overflowing(set(range(5, 40)))
    with pytest.raises(DataError, match="10 steps in a row, up to step 14, overflow float16"):
        for _ in range(40):
            training.go_on()


def test_an_overflow_does_not_excuse_a_loss_that_is_no_number() -> None:
    training = Overflowing({1})
    training.go_on()
    logs = {"loss": float("nan"), "grad_norm": float("inf")}
    with pytest.raises(DataError, match="loss is nan"):
        training.measured._check_finite(logs, 1)
