"""TRL's SFTTrainer on rows that are tokenized and labelled already, in a fixed order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from runner.errors import DataError
from runner.stored_json import write_json
from runner.training.checkpoints import seal_checkpoint
from runner.training.lora import trainable_tensors
from runner.training.step_schedule import StepSchedule

IGNORED = -100
# LoRA's A gets a gradient once B is not zero: after the second step, if a warm-up starts at zero.
LEARNS_BY_STEP = 5


class PaddingCollator:
    """Collator: pads ``input_ids`` and ``labels`` on the right; invents no labels."""

    def __init__(self, pad_token_id: int) -> None:
        """``pad_token_id`` fills the gaps; attention masks it out and its label is -100."""
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Batch of shape [rows, longest]: input_ids, labels, attention_mask."""
        longest = max(len(row["input_ids"]) for row in rows)
        shape = (len(rows), longest)
        input_ids = torch.full(shape, self.pad_token_id, dtype=torch.long)
        labels = torch.full(shape, IGNORED, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            input_ids[index, :length] = torch.as_tensor(row["input_ids"])
            labels[index, :length] = torch.as_tensor(row["labels"])
            mask[index, :length] = 1
        return {"input_ids": input_ids, "labels": labels, "attention_mask": mask}


class ScheduleSampler(Sampler[int]):
    """Gives the trainer the schedule's examples in the schedule's order."""

    def __init__(self, schedule: StepSchedule) -> None:
        """Follow ``schedule``."""
        self.schedule = schedule

    def __iter__(self) -> Any:  # noqa: ANN401 - torch's own signature
        """Example indices."""
        return iter(self.schedule)

    def __len__(self) -> int:
        """Number of examples over the whole training."""
        return len(self.schedule)


class AdapterTrainer(SFTTrainer):
    """SFTTrainer with our order of examples and sealed checkpoints."""

    def __init__(
        self,
        *,
        schedule: StepSchedule,
        measured: Measured,
        **arguments: Any,  # noqa: ANN401
    ) -> None:
        """``arguments`` are SFTTrainer's own."""
        self.schedule = schedule
        self.measured = measured
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ANN401
        del train_dataset
        return ScheduleSampler(self.schedule)

    def create_model_card(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """No card in a checkpoint: a release has its own, with what was measured."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401
        super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]  # trl's own
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        write_json(folder / "measured.json", self.measured.state())
        seal_checkpoint(folder)


class EveryTensorLearns(TrainerCallback):
    """Stops a run in which some adapter weights get no gradient.

    Seen with GPTQ and NF4 on a CPU: 20 of 28 matrices stayed zero, and the loss fell a little.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        """Watch the trainable tensors of ``model``."""
        self.without = trainable_tensors(model)
        self.watched = len(self.without)

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Strike off what has a gradient; after the first steps nothing may be left."""
        del args, control
        if not self.without:
            return
        self.without = {
            name: tensor
            for name, tensor in self.without.items()
            if tensor.grad is None or not tensor.grad.any()
        }
        step = state.global_step + 1  # the step that is about to be made
        if self.without and step == LEARNS_BY_STEP:
            raise DataError(_without_message(list(self.without), self.watched, step))


def _without_message(without: list[str], watched: int, step: int) -> str:
    return (
        f"{len(without)} of {watched} adapter tensors got no gradient in the first {step} steps, "
        f"{without[0]} among them: they learn nothing. The kernel may be for inference only, or "
        "this model may not use the modules that lora.target_modules names."
    )


class Measured(TrainerCallback):
    """Training loss, speed and validation loss by step; tells ``on_step`` after every step."""

    def __init__(
        self,
        *,
        tokens: list[int],
        validate_every: int | None,
        validate: Callable[[], float] | None,
    ) -> None:
        """``tokens[i]`` is the number of real tokens of step i+1."""
        self.tokens = tokens
        self.validate_every = validate_every
        self.validate = validate
        self.track: Callable[[int, float], None] = lambda *_: None
        self.on_step: Callable[[int, float | None, float], None] = lambda *_: None
        self.history: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self.seconds = 0.0
        self.resumed_from: list[int] = []
        self._started = 0.0
        self._logged_at = (0, 0.0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a continued run has the whole curve."""
        return {
            "history": self.history,
            "validation": self.validation,
            "seconds": self.seconds,
            "resumed_from": self.resumed_from,
            "logged_at": self._logged_at,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's ``state``."""
        self.history = state["history"]
        self.validation = state["validation"]
        self.seconds = state["seconds"]
        self.resumed_from = state["resumed_from"]
        step, seconds = state["logged_at"]
        self._logged_at = (step, seconds)

    def on_step_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Start the clock of one step; validation and checkpoints are not counted."""
        self._started = time.perf_counter()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Stop the clock, validate where due, report; the last step is always logged."""
        del args
        self.seconds += time.perf_counter() - self._started
        step = state.global_step
        control.should_log = control.should_log or step == state.max_steps
        if self._validation_due(step, state.max_steps) and self.validate is not None:
            loss = self.validate()
            self.validation.append({"step": step, "loss": loss})
            self.track(step, loss)
        last = self.history[-1]["loss"] if self.history else None
        self.on_step(step, last, self.speed(0, step, self.seconds))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Keep one point of the curve; a loss that is no number ends the run."""
        del args, control
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0)):
            raise DataError(
                f"the training loss is {logs['loss']} and the gradient norm "
                f"{logs.get('grad_norm')} at step {state.global_step}. Lower "
                "training.learning_rate, set training.max_grad_norm, or use a wider model.dtype."
            )
        since, seconds = self._logged_at
        step = state.global_step
        self.history.append(
            {
                "step": step,
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "tokens_per_second": self.speed(since, step, self.seconds - seconds),
            }
        )
        self._logged_at = (step, self.seconds)

    def speed(self, since: int, step: int, seconds: float) -> float:
        """Real (unpadded) tokens per second over the steps ``since``+1 to ``step``."""
        return sum(self.tokens[since:step]) / seconds if seconds > 0 else 0.0

    def _validation_due(self, step: int, last: int) -> bool:
        return self.validate_every is not None and (step % self.validate_every == 0 or step == last)
