"""Starts a process for each device with torchrun's agent, and says what became of them."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runner.errors import ExitCode, MachineError, ProofboxError
from runner.stored_json import read_json, write_json

# Signals that end a process from outside or for a fault of its own; a process that loses touch with
# such a one ends too, with an error that explains nothing.
KILLS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class RankError(ProofboxError):
    """The first error of the processes that trained together, in its own words."""

    def __init__(self, message: str, code: ExitCode) -> None:
        """Keep the exit code that the process ended with."""
        self.exit_code = code
        super().__init__(message)


def launch_ranks(
    command: Sequence[str], count: int, environment: Mapping[str, str], *, scratch: Path
) -> None:
    """Run ``command`` in ``count`` processes of ``environment`` until all have ended.

    The command gets two more arguments, ``--errors FOLDER``, where each leaves its error with
    ``leave_error``: a hidden folder in ``scratch``, gone afterwards. When one ends with an error,
    the others are ended.

    Raises:
        RankError: what the first that failed left there.
        MachineError: one was killed.
        KeyboardInterrupt: Ctrl-C; the processes have ended.
    """
    with (
        tempfile.TemporaryDirectory(prefix=".ranks.", dir=scratch) as place,
        _environment(environment),
        _own_handlers(),
    ):
        caught = _launch(command, count, Path(place))
    if caught is not None:
        _pass_on(caught)


def _launch(command: Sequence[str], count: int, place: Path) -> signal.Signals | None:
    """Wait for the processes; gives the signal that ended them, if one did."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _quiet_agent()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"proofbox-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(place)),
    )
    program, *arguments = command
    try:
        elastic_launch(config, program)(*arguments, "--errors", str(place))
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        raise cause_of(codes, place) from None
    except SignalException as error:
        return error.sigval
    return None


def _quiet_agent() -> None:
    """Quiet torchrun's agent: what a user needs of what it logs is said here."""
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set what the processes inherit: torchrun's agent takes it from this process alone."""
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _pass_on(caught: signal.Signals) -> None:
    """What the signal would have done, had torchrun's agent not caught it to end the processes."""
    if caught == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(caught, signal.SIG_DFL)
    signal.raise_signal(caught)


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Put back the signal handlers that torchrun's agent replaces."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_error(errors: Path, rank: int, message: str, code: int, seconds: float) -> None:
    """Leave an error for the process that waits, ``seconds`` after a start that all share."""
    write_json(errors / f"rank-{rank}.json", {"message": message, "code": code, "seconds": seconds})


def cause_of(codes: Mapping[int, int], errors: Path) -> ProofboxError:
    """Why processes that ended with ``codes`` (by rank; negative: a signal) ended at all.

    The first error that one has left is the cause, and what others say after it (a closed
    connection) is not. Where one was killed the others cannot know why they lost it.
    """
    left = [read_json(path) for path in errors.glob("rank-*.json")]
    first = min(left, key=lambda error: float(error["seconds"]), default=None)
    killed = [rank for rank, code in codes.items() if -code in KILLS]
    if killed and (first is None or first["code"] == ExitCode.DEFECT):
        return _killed(killed[0], -codes[killed[0]])
    if first is not None:
        return RankError(first["message"], ExitCode(first["code"]))
    rank, code = next((r, c) for r, c in codes.items() if -c != signal.SIGTERM)
    if code < 0:
        return _killed(rank, -code)
    return MachineError(f"training process {rank} ended with exit code {code} and said nothing")


def _killed(rank: int, number: int) -> MachineError:
    return MachineError(
        f"training process {rank} was killed by signal {number}, and the others were ended. If the "
        "system ran out of memory, use fewer --devices, or --strategy fsdp. The same command "
        "continues."
    )
