"""TRL's SFTTrainer, given a whole optimizer step at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from trl.trainer.sft_trainer import SFTTrainer

from runner.stored_json import write_json
from runner.training.checkpoints import seal_checkpoint
from runner.training.gradient_sum import sum_over_ranks
from runner.training.measured import Measured
from runner.training.micro_batches import cut_alike
from runner.training.step_engine import StepEngine
from runner.training.training_rows import StepShare, StepShares


class StepTrainer(SFTTrainer):
    """SFTTrainer in our order of examples; our engine computes each step; checkpoints are sealed.

    An item of its data is this rank's share of an optimizer step, so nothing is accumulated by
    transformers. The adapter is the same on every rank; the base model's weights may be sharded.
    """

    def __init__(
        self,
        *,
        shares: StepShares,
        measured: Measured,
        make_engine: Callable[[StepTrainer], StepEngine],
        sharded: bool = False,
        **arguments: Any,  # noqa: ANN401
    ) -> None:
        """``sharded``: the base model's weights are. ``arguments`` are SFTTrainer's own."""
        self.shares = shares
        self.measured = measured
        self.sharded = sharded
        super().__init__(**arguments)
        self.engine = make_engine(self)
        # Once: a walk through all modules takes milliseconds, in every step.
        self.learned = [p for p in self.engine.inner.parameters() if p.requires_grad]
        self.engine.model.zero_grad = partial(_forget_gradients, self.learned)

    def get_train_dataloader(self) -> DataLoader[StepShare]:
        """One share after the other; accelerate neither divides nor moves them."""
        return DataLoader(self.shares, batch_size=1, collate_fn=lambda items: items[0])

    def training_step(  # type: ignore[override]  # our data are shares of steps
        self,
        model: Any,  # noqa: ANN401 - whatever accelerate made of it
        inputs: StepShare,
        num_items_in_batch: Any = None,  # noqa: ANN401 - counted here already
    ) -> torch.Tensor:
        """Gradients of a whole step; returns a loss whose mean over the ranks is the step's."""
        del num_items_in_batch
        if not self.engine.inner.training:  # a wrapper says that it trains from the start
            model.train()
        self.engine.model = model
        # Dropout and noise of a step depend on the seed and its number alone: a continued run, on
        # as many devices, draws the same.
        seed = _step_seed(self.args.seed, inputs.number, self.shares.rank)
        loss = self.engine.gradients(
            inputs.rows,
            supervised=inputs.supervised,
            cut=self._same_number_of_parts(inputs) if self.sharded else None,
            draw=partial(_seed, seed),
        )
        sum_over_ranks(self.learned)
        return loss * self.shares.ranks

    def _same_number_of_parts(self, share: StepShare) -> list[list[int]]:
        cuts = [self.engine.cut(lengths) for lengths in share.lengths_by_rank]
        return cut_alike(cuts)[self.shares.rank]

    def _clip_grad_norm(self, model: Any) -> Any:  # noqa: ANN401 - transformers' own
        """The norm before clipping; of what learns, without a walk through all weights."""
        if self.sharded:
            return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]  # transformers' own
        return self.accelerator.clip_grad_norm_(self.learned, self.args.max_grad_norm)

    def floating_point_ops(self, inputs: StepShare) -> int:  # type: ignore[override]  # as above
        """None counted here: ``Measured`` knows the real tokens."""
        del inputs
        return 0

    def _get_num_items_in_batch(self, batch_samples: list[StepShare], device: Any) -> None:  # noqa: ANN401 - transformers' own
        """The shares know their supervised tokens."""
        del batch_samples, device

    def create_model_card(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """No card in a checkpoint: a release has its own, with what was measured."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401
        super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]  # trl's own
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            write_json(folder / "measured.json", self.measured.state())
            seal_checkpoint(folder)


def _seed(seed: int) -> None:
    """As ``torch.manual_seed``, which takes a millisecond where there is no GPU."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def _forget_gradients(learned: Sequence[torch.nn.Parameter]) -> None:
    for parameter in learned:
        parameter.grad = None


def _step_seed(seed: int, number: int, rank: int) -> int:
    """63 bits that differ between runs' seeds, steps and ranks."""
    digest = hashlib.sha256(f"{seed}:{number}:{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
