"""What ``proofbox run --devices`` starts for each device: one of the processes of a training."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runner.cache import cache_folder
from runner.plan import Plan, plan_of_run
from runner.progress import Progress
from runner.run_folder import RunFolder
from runner.stages import check_partitions, train_all_rows, train_partition
from runner.training.devices import Strategy
from runner.training.launching import leave_error
from runner.training.ranks import Ranks, joined

if TYPE_CHECKING:
    from runner.data.preparation import PreparedData


def train_rank_command(
    recipe: Path, *, run_id: str, runs: Path, device: str, strategy: Strategy, final: bool
) -> None:
    """Train as one of the processes that torchrun's agent started; the first writes.

    ``final`` is the fit on all rows.

    Raises:
        DataError: the recipe, data or model changed since the run began.
        MachineError: the processes do not have the same rows, order or adapter.
    """
    from runner.base_model.loaded_model import quiet_libraries

    quiet_libraries()
    plan = plan_of_run(recipe, runs=runs, device=device, run_id=run_id)
    _share_threads(plan.threads, int(os.environ["WORLD_SIZE"]))
    data = _prepared(plan)
    check_partitions(plan.folder, data, sets=False)
    with joined(plan.device, strategy) as ranks:
        progress = _progress(plan.folder, ranks)
        train = train_all_rows if final else train_partition
        train(plan, data, progress, ranks)


def end_rank(errors: Path, message: str, code: int) -> NoReturn:
    """End this process, after it has left its error in the folder ``errors``.

    At once where it failed: what is left of the others' connection may keep it waiting.
    """
    if code:
        leave_error(errors, int(os.environ["RANK"]), message, code, time.monotonic())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(0)


def _share_threads(threads: int, processes: int) -> None:
    """Each process computes with its share of the CPU threads; accelerate reads the variable."""
    import torch

    share = max(threads // processes, 1)
    os.environ["OMP_NUM_THREADS"] = str(share)
    torch.set_num_threads(share)


def _prepared(plan: Plan) -> PreparedData:
    """The data that the run has prepared, from the cache."""
    from runner.base_model.loaded_model import load_tokenizer
    from runner.data.preparation import prepare_data

    return prepare_data(
        plan.recipe,
        plan.source,
        load_tokenizer(plan.recipe, plan.model),
        base_folder=plan.base_folder,
        cache_folder=cache_folder(),
        vocabulary=plan.model.vocabulary or None,
    )


def _progress(folder: RunFolder, ranks: Ranks) -> Progress:
    """The first process tells the user; the others work in silence."""
    from rich.console import Console

    if ranks.first:
        return Progress(folder.path / "run.log")
    return Progress(console=Console(quiet=True))
