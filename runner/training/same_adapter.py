"""Stops a training whose processes no longer hold the same adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from runner.training.lora import trainable_tensors
from runner.training.ranks import Ranks, digest_of_tensors

if TYPE_CHECKING:
    from peft import PeftModel


class SameAdapter(TrainerCallback):
    """Compares the adapters of all processes, byte for byte, after every checkpoint.

    The sums of gradients are the same bytes everywhere, and so are the adapters. If they were not,
    gradients would be taken at different places and added up all the same.
    """

    def __init__(self, model: PeftModel, ranks: Ranks) -> None:
        """Compare the trainable tensors of ``model`` between ``ranks``."""
        self.model = model
        self.ranks = ranks

    def on_save(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - transformers' own
        """Compare; every process has come to the same step.

        Raises:
            MachineError: they differ.
        """
        if self.ranks.count > 1:
            digest = digest_of_tensors(trainable_tensors(self.model))
            self.ranks.check_same({"the adapter at a checkpoint": digest})
