"""The limits of one program, as its harness sets them on itself before the answer's code runs."""

from __future__ import annotations

from evalsuite.records import CodeExecution

MIB = 1024 * 1024
_OPEN_FILES = 64
# A program that sleeps uses no CPU time: the clock ends it, late enough that a busy machine changes
# no score.
_CLOCK_FACTOR, _CLOCK_SECONDS = 3, 2


def resource_limits(execution: CodeExecution, *, processes: int) -> dict[str, int]:
    """Name of each limit in the module `resource` -> its value.

    Args:
        execution: What the recipe allows.
        processes: Processes and threads that the kernel may count, those of the sandbox itself
            included.
    """
    return {
        "RLIMIT_AS": execution.memory_mb * MIB,
        "RLIMIT_CPU": execution.seconds,
        "RLIMIT_FSIZE": execution.file_mb * MIB,
        "RLIMIT_NPROC": processes,
        "RLIMIT_NOFILE": _OPEN_FILES,
        "RLIMIT_CORE": 0,
        # POSIX message queues and locked pages would be memory beyond the address space.
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_MEMLOCK": 0,
    }


def clock_seconds(execution: CodeExecution) -> float:
    """Seconds on the clock after which a program is ended, whatever it does."""
    return float(_CLOCK_FACTOR * execution.seconds + _CLOCK_SECONDS)
