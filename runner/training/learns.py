"""Stops a training in which something that should learn does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runner.errors import DataError
from runner.training.lora import module_of, trainable_tensors

if TYPE_CHECKING:
    import torch

# LoRA's A gets a gradient once B is not zero: after the second step, if a warm-up starts at zero.
LEARNS_BY_STEP = 5
_EARLIEST = 3  # the step in which A has a gradient at the earliest, where a warm-up starts at zero
_TELL = 3  # names that a message lists
_TOKEN_ROWS = ".trainable_tokens_delta."


class EveryTensorLearns(TrainerCallback):
    """Stops a run in which a part of the adapter gets no gradient.

    Low-rank matrices, magnitudes, biases and modules that are trained whole must have one after the
    first steps; the row of a trained token after the first step in which the token matters.

    Seen with GPTQ and NF4 on a CPU: 20 of 28 matrices stayed zero, and the loss fell a little.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - an adapted model
        *,
        token_ids: Sequence[int] = (),
        first_steps: Mapping[int, int] | None = None,
        skipped: Callable[[], int] = lambda: 0,
    ) -> None:
        """Watch the trainable tensors of ``model``; ``skipped`` steps so far changed nothing.

        ``token_ids`` are the rows of its tensors of trained tokens; ``first_steps`` says by which
        step (from 1) the embedding of each must have a gradient, where that is known.
        """
        tensors = trainable_tensors(model)
        self.skipped = skipped
        self.token_ids = tuple(token_ids)
        self.rows = {
            name: dict(first_steps or {})
            for name in tensors
            if _TOKEN_ROWS in name and module_of(name) == _embedding_of(model)
        }
        self.row_tensors = {name: tensors[name] for name in self.rows}
        self.without = {n: tensor for n, tensor in tensors.items() if n not in self.rows}
        self.watched = len(self.without)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """A continued run does not wait for what came before its checkpoint."""
        del args, control
        for steps in self.rows.values():
            for token in [t for t, step in steps.items() if step <= state.global_step]:
                del steps[token]

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Strike off what has a gradient; when it is due, nothing may be left."""
        del args, control
        step = state.global_step + 1  # the step that is about to be made
        self._check_rows(step)
        due = max(min(LEARNS_BY_STEP, state.max_steps), _EARLIEST) + self.skipped()
        if not self.without:
            return
        self.without = {
            name: tensor
            for name, tensor in self.without.items()
            if tensor.grad is None or not tensor.grad.any()
        }
        if self.without and step == due:
            raise DataError(_without_message(list(self.without), self.watched, step))

    def _check_rows(self, step: int) -> None:
        for name, steps in self.rows.items():
            if not any(first <= step for first in steps.values()):
                continue
            learned = _rows_with_gradient(self.row_tensors[name])
            late = []
            for token in [token for token, first in steps.items() if first <= step]:
                if learned[self.token_ids.index(token)]:
                    del steps[token]
                elif step >= LEARNS_BY_STEP:
                    late.append(token)
            if late:
                raise DataError(
                    f"the trained tokens with ids {late[:_TELL]} got no gradient in the first "
                    f"{step} steps, in which they occur: their rows of {module_of(name)} learn "
                    "nothing. The attention of this model may not reach them."
                )


def _embedding_of(model: Any) -> str | None:  # noqa: ANN401 - an adapted model
    base = model.get_base_model()
    embedding = base.get_input_embeddings()
    return next((name for name, module in base.named_modules() if module is embedding), None)


def _rows_with_gradient(tensor: torch.Tensor) -> list[bool]:
    """Of each row of (N, H) whether its gradient is not zero."""
    if tensor.grad is None:
        return [False] * len(tensor)
    rows: list[bool] = tensor.grad.any(dim=1).tolist()
    return rows


def _without_message(without: list[str], watched: int, step: int) -> str:
    modules = list(dict.fromkeys(map(module_of, without)))
    more = f" and {len(modules) - _TELL} more modules" if len(modules) > _TELL else ""
    return (
        f"{len(without)} of {watched} adapter tensors got no gradient in the first {step} steps, "
        f"those of {', '.join(modules[:_TELL])}{more}: they learn nothing. The kernel may be for "
        "inference only, or this model may not use these modules. Name others under `lora`, or "
        "put these under lora.exclude_modules."
    )
