"""``proofbox run --self-test`` and ``plan --check``: does training do what it promises here?"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from runner.errors import ExitCode
from runner.plan import Plan, make_plan
from runner.progress import Progress
from runner.quantizing.quantized_base import quantized_plan
from runner.recipe_reading.recipe_file import find_recipe

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runner.data.preparation import PreparedData
    from runner.training.self_test import SelfTest

STYLES = {"pass": "green", "fail": "red", "not applicable": "dim"}


def self_test_command(recipe: str, *, device: str | None) -> ExitCode:
    """Test the training of a recipe and print what was found; leaves no run behind."""
    from runner import stages
    from runner.base_model.loaded_model import quiet_libraries

    quiet_libraries()
    progress = Progress()
    with TemporaryDirectory(prefix="proofbox-self-test-") as runs:
        plan = make_plan(find_recipe(recipe), runs=Path(runs), device=device)
        data = stages.prepared(plan, progress)
        tested = test_training(quantized_plan(plan, data, progress), data, progress)
    show(tested)
    return exit_code(tested)


def test_training(plan: Plan, data: PreparedData, progress: Progress) -> SelfTest:
    """Test ``plan`` on its prepared data, in a folder that is removed again.

    Raises:
        MachineError: the memory does not suffice for a few examples.
        DataError, UsageError: what training the recipe would end with at once.
    """
    from runner.base_model.loaded_model import check_base, load_model, memory_explained
    from runner.data.preparation import partition_dataset
    from runner.training.self_test import self_test

    check_base(plan.recipe, plan.model, plan.device)
    started = time.perf_counter()
    with (
        TemporaryDirectory(prefix="proofbox-self-test-") as folder,
        progress.bar("self-test") as advance,
        memory_explained("hardware.micro_batch_tokens, or set hardware.activation_checkpointing"),
    ):
        tested = self_test(
            plan.recipe,
            lambda: load_model(plan.recipe, plan.model, device=plan.device),
            partition_dataset(data, "train"),
            Path(folder),
            tell=advance,
        )
    progress.announce(f"  self-test: {time.perf_counter() - started:.0f} s")
    return tested


def exit_code(tested: SelfTest) -> ExitCode:
    """An error where a check fails: a run would rest on what does not hold."""
    return ExitCode.ENVIRONMENT if tested.failed else ExitCode.PASS


def show(tested: SelfTest) -> None:
    """Print the table and, where something fails, what to do."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table(tested))
    for check in tested.checks:
        if check.outcome != "pass":
            console.print(f"{check.name}: {check.advice}", markup=False, soft_wrap=True)
    lengths = ", ".join(f"{length:,}" for length in tested.lengths)
    console.print(
        f"{_conclusion(tested)} Tested on {tested.device} in {tested.dtype}, on examples of "
        f"{lengths} tokens of the train partition. Differences are relative.",
        markup=False,
        soft_wrap=True,
    )


def _conclusion(tested: SelfTest) -> str:
    if not tested.failed:
        return "The self-test passes."
    return f"The self-test fails in {len(tested.failed)} of {len(tested.checks)} checks."


def _table(tested: SelfTest) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("result", "tested", "found", "allowed"):
        table.add_column(name, header_style="dim", overflow="fold")
    for check in tested.checks:
        result = Text(check.outcome, STYLES[check.outcome])
        table.add_row(result, Text(check.name), Text(check.found), Text(check.allowed))
    return table
