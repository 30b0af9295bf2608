"""A run in each tracker: opened here, then followed by transformers' own callback.

Their callbacks would open runs by themselves, under names of their own and with every argument of
the trainer; here a run is named and described by its recipe, and can be continued.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import (
    MLflowCallback,
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
)

from runner.errors import MachineError
from runner.training.trackers import TrackedRun

PROJECT = "proofbox"
_STEP = "train/global_step"  # what transformers' callbacks call the optimizer step
_CLOSED_EXIT_CODES = {"FINISHED": 0, "FAILED": 1, "KILLED": 130}


class TensorBoardRun:
    """Event files below the run folder; those of steps that are made again are hidden."""

    identity = None

    def __init__(self, run: TrackedRun) -> None:
        """Write beside what earlier sessions wrote."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "events"
        again = run.after + 1 if run.after else None
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=again)
        self.place = f"tensorboard --logdir {folder}"
        if not run.after:
            self.writer.add_text("recipe", _as_markdown(run.recipe))

    def callback(self) -> TrainerCallback:
        """Logs what the trainer logs."""
        return TensorBoardCallback(self.writer)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log further values of an optimizer step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def conclude(self, verdict: str, figures: Mapping[str, float], step: int) -> None:
        """Log what the run came to."""
        self.writer.add_text("verdict", verdict, step)
        self.log(figures, step)

    def close(self, *, status: str) -> None:
        """Flush the file."""
        del status
        self.writer.close()


def _as_markdown(recipe: Mapping[str, Any]) -> str:
    return f"    {json.dumps(recipe, indent=1)}".replace("\n", "\n    ")


class WandbRun:
    """A run of Weights & Biases, found again by its id; without a network with WANDB_MODE."""

    def __init__(self, run: TrackedRun) -> None:
        """Open it; WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and WANDB_DIR are heeded.

        Raises:
            MachineError: nobody is logged in, or the server does not answer.
        """
        import wandb

        self.identity = run.identity or run.fresh_identity()
        with _explained(wandb.errors.Error, "Or keep the run here: WANDB_MODE=offline."):
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=self.identity,
                name=run.name,
                resume="allow",
                config=dict(run.recipe),
                dir=os.environ.get("WANDB_DIR", str(run.folder)),
                # Our bar and messages are for the terminal and run.log.
                settings=wandb.Settings(console="off", silent=True),
            )
        self.run.define_metric(_STEP)
        self.run.define_metric("*", step_metric=_STEP, step_sync=True)
        online = self.run.settings.mode == "online"
        self.place = str(self.run.url if online else f"wandb sync {self.run.settings.sync_dir}")

    def callback(self) -> TrainerCallback:
        """Logs what the trainer logs."""
        return _OpenedWandb()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log further values of an optimizer step."""
        self.run.log({**values, _STEP: step})

    def conclude(self, verdict: str, figures: Mapping[str, float], step: int) -> None:
        """Log what the run came to."""
        del step
        self.run.summary.update({"verdict": verdict, **figures})

    def close(self, *, status: str) -> None:
        """Send what is left."""
        self.run.finish(exit_code=_CLOSED_EXIT_CODES[status])


class _OpenedWandb(WandbCallback):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers' own

    def setup(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """The run is open and described."""
        self._initialized = True


class MlflowRun:
    """A run of MLflow, found again by the id that its server gave it."""

    def __init__(self, run: TrackedRun) -> None:
        """Open it; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are heeded.

        Raises:
            MachineError: the server or its store cannot be used.
        """
        import mlflow

        self.mlflow = mlflow
        advice = "MLFLOW_TRACKING_URI names the server or the database."
        with _explained(mlflow.exceptions.MlflowException, advice):
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
            known = run.identity is not None and _is_there(run.identity)
            opened = mlflow.start_run(run_id=run.identity if known else None, run_name=run.name)
            self.identity: str | None = opened.info.run_id
            if not known:
                self._describe(run.recipe)
        self.place = f"run {self.identity} in {mlflow.get_tracking_uri()}"

    def _describe(self, recipe: Mapping[str, Any]) -> None:
        limits = self.mlflow.utils.validation
        longest, at_once = limits.MAX_PARAM_VAL_LENGTH, limits.MAX_PARAMS_TAGS_PER_BATCH
        values = [(key, text[:longest]) for key, text in _flat(recipe)]
        for start in range(0, len(values), at_once):
            self.mlflow.log_params(dict(values[start : start + at_once]))

    def callback(self) -> TrainerCallback:
        """Logs what the trainer logs."""
        return _OpenedMlflow()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log further values of an optimizer step."""
        self.mlflow.log_metrics(dict(values), step=step, synchronous=False)

    def conclude(self, verdict: str, figures: Mapping[str, float], step: int) -> None:
        """Log what the run came to."""
        with _explained(self.mlflow.exceptions.MlflowException, ""):
            self.mlflow.set_tag("verdict", verdict)
            self.mlflow.log_metrics(dict(figures), step=step)

    def close(self, *, status: str) -> None:
        """Send what is left."""
        self.mlflow.end_run(status)


def _is_there(identity: str) -> bool:
    """Whether the server still has the run, and did not put it in its bin."""
    import mlflow

    try:
        found = mlflow.MlflowClient().get_run(identity)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return bool(found.info.lifecycle_stage == "active")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


class _OpenedMlflow(MLflowCallback):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers' own

    def setup(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """The run is open and described; checkpoints stay in the run folder."""
        self._async_log = True
        self._log_artifacts = False
        self._initialized = True


class TrackioRun:
    """A run of Trackio, found again by its name."""

    def __init__(self, run: TrackedRun) -> None:
        """Open it; TRACKIO_PROJECT, TRACKIO_SPACE_ID, TRACKIO_SERVER_URL, TRACKIO_DIR are heeded.

        Raises:
            MachineError: the Space or the server cannot be used.
        """
        import trackio

        self.trackio = trackio
        # The name is all that Trackio tells runs apart by.
        self.identity = run.identity or f"{run.recipe['name']}-{run.fresh_identity()}"
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        with _explained((ValueError, OSError), ""):
            trackio.init(
                project=project,
                name=self.identity,
                resume="allow",
                config=dict(run.recipe),
                embed=False,
            )
        self.place = f"trackio show --project {project}"

    def callback(self) -> TrainerCallback:
        """Logs what the trainer logs."""
        return _OpenedTrackio()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log further values of an optimizer step."""
        self.trackio.log({**values, _STEP: step})

    def conclude(self, verdict: str, figures: Mapping[str, float], step: int) -> None:
        """Log what the run came to."""
        self.trackio.log({"verdict": verdict, **figures, _STEP: step})

    def close(self, *, status: str) -> None:
        """Send what is left."""
        del status
        self.trackio.finish()


class _OpenedTrackio(TrackioCallback):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers' own

    def setup(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """The run is open and described."""
        self._initialized = True

    def on_train_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """The run is closed by who opened it."""

    def on_push_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Nothing is pushed while training."""


@contextmanager
def _explained(kinds: type[Exception] | tuple[type[Exception], ...], advice: str) -> Iterator[None]:
    """Errors of ``kinds`` are a user's to mend, and say where from."""
    try:
        yield
    except kinds as error:
        text = " ".join(f"training.trackers: {error}".split())
        raise MachineError(f"{text} {advice}".rstrip()) from error
