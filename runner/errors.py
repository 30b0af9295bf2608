"""What a user is told when something is wrong, and the exit code that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command (docs/exit-codes.md)."""

    PASS = 0
    FAIL = 1
    RECIPE = 2
    INCONCLUSIVE = 3
    ENVIRONMENT = 4
    DEFECT = 70
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One thing wrong at one place of a recipe file; lines and columns count from 1."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        """``file:line:column: key: message``, as editors and CI systems parse it."""
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ProofboxError(Exception):
    """A problem the user can mend. Printed without a traceback; ``exit_code`` ends the command."""

    exit_code: ExitCode = ExitCode.ENVIRONMENT


class UsageError(ProofboxError):
    """The command line asks for something that cannot be (exit code 2)."""

    exit_code = ExitCode.RECIPE


class RecipeError(ProofboxError):
    """A recipe that is wrong. Holds every fault found, sorted by place (exit code 2)."""

    exit_code = ExitCode.RECIPE

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Keep ``faults`` in order of file, line and column."""
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))


class DataError(ProofboxError):
    """Data that cannot be trained or evaluated on as declared (exit code 4)."""


class MachineError(ProofboxError):
    """What this machine lacks or refuses: a file, disk, package, device, network (exit code 4)."""


class DefectError(ProofboxError):
    """Something that proofbox itself promises does not hold: report it (exit code 70)."""

    exit_code = ExitCode.DEFECT
