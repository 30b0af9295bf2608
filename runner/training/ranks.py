"""The processes that train one adapter together, as one of them sees them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from runner.errors import MachineError
from runner.training.devices import Strategy

if TYPE_CHECKING:
    import torch

# How long one process waits for the others: none works alone for so long.
PATIENCE = timedelta(minutes=30)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process is number ``rank`` of ``count``; number 0 announces and writes."""

    rank: int = 0
    count: int = 1
    strategy: Strategy = "ddp"

    @property
    def first(self) -> bool:
        """Whether this process announces and writes."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether every forward pass exchanges weights, so that all must make equally many."""
        return self.count > 1 and self.strategy == "fsdp"

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What ``make`` gives in process 0, in every process."""
        if self.count == 1:
            return make()
        import torch.distributed as dist

        held: list[Value | None] = [make() if self.first else None]
        dist.broadcast_object_list(held, src=0)
        (value,) = held
        return value  # type: ignore[return-value]  # None only where `make` gave None

    def of_all(self, value: Value) -> list[Value]:
        """Every process's ``value``, by rank."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        gathered: list[Value | None] = [None] * self.count
        dist.all_gather_object(gathered, value)
        return gathered  # type: ignore[return-value]  # all are filled

    def check_same(self, digests: Mapping[str, str]) -> None:
        """Every process must have the same digest under each name.

        Raises:
            MachineError: they differ; what differs, and where.
        """
        for name, own in digests.items():
            found = self.of_all(own)
            others = [rank for rank, digest in enumerate(found) if digest != found[0]]
            if others:
                raise MachineError(
                    f"{name}: not the same in process {others[0]} as in process 0 of {self.count}. "
                    "Train on one device, and report this with lock.json: it should not be."
                )


ALONE = Ranks()


@contextmanager
def joined(device: str, strategy: Strategy) -> Iterator[Ranks]:
    """Join the processes that torchrun's agent started; NCCL between GPUs, gloo between CPUs.

    Each takes the GPU of its own number.
    """
    import torch
    import torch.distributed as dist

    if device == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=own)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    yield Ranks(rank=dist.get_rank(), count=dist.get_world_size(), strategy=strategy)
    dist.destroy_process_group()


def digest_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names and bytes of tensors on any device."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous().view(-1)
        digest.update(f"{name} {values.dtype} {len(values)}\n".encode())
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
