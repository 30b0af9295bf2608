"""What a training measures of itself while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runner.errors import DataError
from runner.training.live_figures import LiveFigures, Mark, bar_text

_LOGGED = ("loss", "grad_norm", "learning_rate")  # of what transformers logs: kept in the history

# After so many steps in a row the scale of float16's gradients is a thousandth: more is in vain.
_SKIPS_IN_A_ROW = 10

_MISCOUNTED = (
    *("epoch", "total_flos", "train_runtime"),
    *("train_samples_per_second", "train_steps_per_second"),
)


class Measured(TrainerCallback):
    """Training loss, figures and validation loss by step; tells ``on_step`` after every step.

    Its clock runs from step to step, with all that belongs to them (reading rows, logging); it
    stands still during validation and while a checkpoint is written. ``was_skipped`` tells whether
    the last step changed nothing, because its gradients overflowed float16; such are ``skipped``.
    """

    def __init__(
        self,
        figures: LiveFigures,
        *,
        validate_every: int | None,
        validate: Callable[[], float] | None,
    ) -> None:
        """``validate`` gives the held-out loss; None where nothing is validated."""
        self.figures = figures
        self.validate_every = validate_every
        self.validate = validate
        self.track: Callable[[Mapping[str, float], int], None] = lambda *_: None
        self.on_step: Callable[[int, str], None] = lambda *_: None
        self.history: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self.resumed_from: list[int] = []
        self.was_skipped: Callable[[], bool] = lambda: False
        self.skipped: list[int] = []
        self._running_since: float | None = None
        self._logged_at = Mark()

    @property
    def seconds(self) -> float:
        """What the steps took, over all sessions whose steps count."""
        return self.figures.now.seconds

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a continued run has the whole curve."""
        return {
            "history": self.history,
            "validation": self.validation,
            "resumed_from": self.resumed_from,
            "skipped": self.skipped,
            "figures": self.figures.state(),
            "logged_at": asdict(self._logged_at),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's ``state``."""
        self.history = state["history"]
        self.validation = state["validation"]
        self.resumed_from = state["resumed_from"]
        self.skipped = state["skipped"]
        self.figures.restore(state["figures"])
        self._logged_at = Mark(**state["logged_at"])

    def on_step_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Start the clock where it stands still: at the first step, and after a checkpoint."""
        if self._running_since is None:
            self._running_since = time.perf_counter()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Note the step's time, validate where due, report; the last step is always logged."""
        del args
        step, last = state.global_step, state.max_steps
        if self.was_skipped():
            self._note_skipped(step)
        control.should_log = control.should_log or step == last
        validated = self._validation_due(step, last)
        if control.should_log or control.should_save or validated:
            _finish_computing()
        self._note(step)
        if validated:
            self._validate(step)
        loss = self.history[-1]["loss"] if self.history else None
        left = self.figures.seconds_left(self._validations_after(step, last))
        self.on_step(step, bar_text(loss, self.figures.recent(), left))
        if control.should_save:
            self._running_since = None

    def _note(self, step: int) -> None:
        now = time.perf_counter()
        self.figures.step_done(step, now - (self._running_since or now))
        self._running_since = now

    def _validate(self, step: int) -> None:
        if self.validate is None:
            return
        started = time.perf_counter()
        loss = self.validate()
        self.validation.append({"step": step, "loss": loss})
        self.track({"validation/loss": loss}, step)
        self._running_since = time.perf_counter()
        self.figures.validation_seconds = self._running_since - started

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Keep one point of the curve; a loss that is no number ends the run.

        The figures are added to ``logs``, which trackers see after this; what transformers counts
        wrongly, because it takes a whole step for one example, is removed.
        """
        del args, control
        for name in _MISCOUNTED:
            (logs or {}).pop(name, None)
        if logs is None or "loss" not in logs:
            return
        self._check_finite(logs, state.global_step)
        point = self.figures.since(self._logged_at).as_point()
        logged = {name: float(logs[name]) for name in _LOGGED if name in logs}
        self.history.append({"step": state.global_step, **logged, **point})
        logs.update(point)
        self._logged_at = self.figures.now

    def _note_skipped(self, step: int) -> None:
        self.skipped.append(step)
        newest = self.skipped[-_SKIPS_IN_A_ROW:]
        if len(newest) == _SKIPS_IN_A_ROW and newest[0] == step - _SKIPS_IN_A_ROW + 1:
            raise DataError(
                f"the gradients of {_SKIPS_IN_A_ROW} steps in a row, up to step {step}, overflow "
                "float16. Lower training.learning_rate, or use a wider model.dtype."
            )

    def _check_finite(self, logs: dict[str, float], step: int) -> None:
        """An overflow of float16 is no failure: the step is left out and the scale halved."""
        if self.skipped[-1:] == [step] and math.isfinite(logs["loss"]):
            logs.pop("grad_norm", None)
        elif not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0)):
            raise DataError(
                f"the training loss is {logs['loss']} and the gradient norm "
                f"{logs.get('grad_norm')} at step {step}. Lower training.learning_rate, set "
                "training.max_grad_norm, or use a wider model.dtype."
            )

    def _validation_due(self, step: int, last: int) -> bool:
        if self.validate is None or self.validate_every is None:
            return False
        return step % self.validate_every == 0 or step == last

    def _validations_after(self, step: int, last: int) -> int:
        if self.validate is None or self.validate_every is None or step >= last:
            return 0
        every = self.validate_every
        return last // every - step // every + (1 if last % every else 0)


def _finish_computing() -> None:
    """A GPU works behind; what it has been given so far belongs to the steps so far."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
