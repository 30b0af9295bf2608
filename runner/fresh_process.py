"""How a command of this very installation is started in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runner.errors import ExitCode, ProofboxError


class FreshProcessError(ProofboxError):
    """A fresh process ended with an error that it has already explained."""

    def __init__(self, code: int, *, what: str, lower: str) -> None:
        """Keep the exit codes that say something of a user's; all others are defects of ours.

        ``what`` was killed, where it was, and which key to ``lower`` for want of memory.
        """
        explained = (ExitCode.RECIPE, ExitCode.ENVIRONMENT, ExitCode.INTERRUPTED)
        killed = code < 0
        self.exit_code = ExitCode.ENVIRONMENT if killed else ExitCode.DEFECT
        if code in explained:
            self.exit_code = ExitCode(code)
        super().__init__(
            f"{what} was killed by signal {-code}. If the system ran out of memory, lower {lower}. "
            "The same command continues."
            if killed
            else ""
        )


def own_command(verb: str, *arguments: str) -> list[str]:
    """The command line of a hidden ``verb``; it is told who started it, and ends with that process.

    -P: modules of the user's own folder must not stand in for ours.
    """
    return [sys.executable, "-P", "-m", "runner", verb, *arguments, "--parent", str(os.getpid())]


def own_environment() -> dict[str, str]:
    """This process's environment, in which ``own_command`` finds this installation."""
    places = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
