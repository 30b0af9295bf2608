"""A training on two processes is the one on one process: curve, checkpoints, adapter."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner import stages
from runner.data.preparation import PreparedData
from runner.errors import MachineError
from runner.plan import Plan, make_plan
from runner.progress import Advance, Progress
from runner.run_folder import open_run
from runner.training.devices import Devices
from runner.training.train_adapter import TrainedAdapter
from tests.killing import start

DDP, FSDP = Devices(count=2), Devices(count=2, strategy="fsdp")
CHECKPOINT = 6  # after which a training is interrupted
PATIENCE = 120.0  # seconds


@pytest.fixture
def uneven_recipe(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """Five examples a step for two processes, in unequally many parts; no dropout, no noise."""
    tiny_recipe["training"] |= {"batch_size": 5, "log_every": 1, "neftune_alpha": None}
    tiny_recipe["training"] |= {"max_steps": 40, "validate_every": 5, "checkpoint_every": 6}
    tiny_recipe["lora"]["dropout"] = 0
    tiny_recipe["hardware"]["micro_batch_tokens"] = 130
    tiny_recipe["evaluation"] = {"loss": ["test"], "base": False}
    tiny_recipe["gates"] = []
    return tiny_recipe


@pytest.fixture(autouse=True)
def _no_waiting_for_each_other() -> Iterator[None]:
    """Processes that wait for each other are killed, which fails the test."""

    def kill() -> None:
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(PATIENCE, kill)
    timer.start()
    yield
    timer.cancel()


Prepared = Callable[[str], tuple[Plan, PreparedData]]


@pytest.fixture
def prepared(tmp_path: Path, uneven_recipe: dict[str, Any], write_recipe: Any) -> Prepared:
    """A run folder of the recipe, ready to be trained in."""
    recipe = write_recipe(uneven_recipe)

    def prepare(name: str) -> tuple[Plan, PreparedData]:
        plan = make_plan(recipe, runs=tmp_path / name)
        plan.folder.path.mkdir(parents=True)
        return plan, stages.prepare(plan, Progress())

    return prepare


class InterruptedProgress(Progress):
    """Ctrl-C right after the step that follows a checkpoint."""

    @contextmanager
    def bar(self, title: str, **_: Any) -> Iterator[Advance]:
        del title

        def advance(done: int, total: int, text: str) -> None:
            del total, text
            if done == CHECKPOINT + 1:
                raise KeyboardInterrupt

        yield advance


def test_two_processes_that_are_killed_continue_on_one(prepared: Prepared) -> None:
    """The curve is that of one process all along; the error says which process was killed."""
    expected = stages.train(*prepared("one"), Progress())
    plan, data = prepared("two")
    killer = threading.Thread(target=kill_second_rank, args=(plan,), daemon=True)
    killer.start()
    with pytest.raises(MachineError, match="training process 1 was killed by signal 9"):
        stages.train(plan, data, Progress(), DDP)
    killer.join()
    assert children() == []
    found = stages.train(plan, data, Progress())
    assert found.resumed_from[0] >= CHECKPOINT
    assert found.devices == 1
    assert_same_curve(found, expected)


@pytest.mark.slow
def test_one_process_that_is_interrupted_continues_sharded_on_two(prepared: Prepared) -> None:
    expected = stages.train(*prepared("one"), Progress())
    plan, data = prepared("two")
    with pytest.raises(KeyboardInterrupt):
        stages.train(plan, data, InterruptedProgress())
    found = stages.train(plan, data, Progress(), FSDP)
    assert (found.devices, found.strategy) == (2, "fsdp")
    assert found.resumed_from == (CHECKPOINT,)
    assert found.total_parameters == expected.total_parameters
    assert_same_curve(found, expected)
    assert_same_adapter(plan, open_run(plan.folder.path.parent.parent.parent / "one" / "tiny").path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left(
    number: int, tmp_path: Path, uneven_recipe: dict[str, Any], write_recipe: Any
) -> None:
    """Whatever ends the run ends the processes that it has started."""
    uneven_recipe["training"]["max_steps"] = 2000
    runs = tmp_path / "runs"
    run = start(write_recipe(uneven_recipe), runs, "--devices", "2")
    wait_until(lambda: bool(list(runs.glob("tiny/*/checkpoints/checkpoint-*/sealed.json"))))
    ranks = children(run.pid)
    assert len(ranks) == 2
    os.kill(run.pid, number)
    assert run.wait(30) == (130 if number == signal.SIGINT else -number)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks), seconds=10)
    # What SIGKILL leaves is hidden, and the next run sweeps it away.
    assert bool(list(runs.glob("tiny/*/.ranks.*"))) == (number == signal.SIGKILL)


def kill_second_rank(plan: Plan) -> None:
    """SIGKILL to process 1 once the checkpoint is there."""
    sealed = plan.folder.checkpoints / f"checkpoint-{CHECKPOINT}" / "sealed.json"
    wait_until(sealed.is_file)
    (second,) = [pid for pid in children() if b"\0RANK=1\0" in environment(pid)]
    os.kill(second, signal.SIGKILL)


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def children(parent: int | None = None) -> list[int]:
    """Processes of a training that ``parent`` (this process) has started."""
    listed = Path(f"/proc/{parent or os.getpid()}/task").glob("*/children")
    found = [int(pid) for path in listed for pid in path.read_text().split()]
    return [pid for pid in found if b"train-rank" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def environment(pid: int) -> bytes:
    return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()


def assert_same_curve(found: TrainedAdapter, expected: TrainedAdapter) -> None:
    def losses(record: TrainedAdapter) -> list[float]:
        return [point["loss"] for point in (*record.history, *record.validation)]

    assert len(losses(expected)) == 40 + 8
    assert losses(found) == pytest.approx(losses(expected), abs=1e-4)


def assert_same_adapter(plan: Plan, other: Path) -> None:
    import torch
    from safetensors.torch import load_file

    weights = "adapter_model.safetensors"
    found, expected = (
        load_file(plan.folder.adapter / weights),
        load_file(other / "adapter" / weights),
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
