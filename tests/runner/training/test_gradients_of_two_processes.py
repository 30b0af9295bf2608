"""Gradients of a step do not depend on its cut where two processes share it either."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from runner.training.gradient_sum import sum_over_ranks
from tests.runner.training.test_step_engine import (
    engine_of,
    reference,
    rows_of,
    supervised,
    worst,
)

RANKS = 2
SIZES = (1, 4, 16)  # examples at once: 16 parts of 1, 4 of 4, 1 of 16, all ranks together


def compute(rank: int, folder: str) -> None:
    """What a rank does: its half of the examples, cut in each way, and the sum over both."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS
    )
    rows = rows_of()
    mine = rows[rank::RANKS]
    for size in SIZES:
        engine = engine_of()
        own = max(size // RANKS, 1)
        cut = [list(range(start, start + own)) for start in range(0, len(mine), own)]
        engine.gradients(mine, supervised=supervised(rows), cut=cut)
        learned = {n: p for n, p in engine.model.named_parameters() if p.requires_grad}
        alone = {n: p.grad.clone() for n, p in learned.items() if p.grad is not None}
        sum_over_ranks(learned.values())
        summed = {n: p.grad for n, p in learned.items()}
        torch.save({"alone": alone, "summed": summed}, f"{folder}/{rank}-{size}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def computed_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(compute, args=(str(folder),), nprocs=RANKS)  # type: ignore[no-untyped-call]  # torch's own
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_every_cut_gives_the_gradients_of_the_whole(computed_by_two: Path, size: int) -> None:
    _, wanted = reference()
    found = [torch.load(computed_by_two / f"{rank}-{size}.pt") for rank in range(RANKS)]
    for rank in found:
        assert worst(rank["summed"], wanted) < 1e-5
    # Neither half is the whole: without the sum, or with their mean, this would fail.
    assert worst(found[0]["alone"], wanted) > 1e-3
    mean = {n: t / RANKS for n, t in found[0]["summed"].items()}
    assert worst(mean, wanted) > 1e-3
