"""How a command of this very installation is started in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def own_command(verb: str, *arguments: str) -> list[str]:
    """The command line of a hidden ``verb``; it is told who started it, and ends with that process.

    -P: modules of the user's own folder must not stand in for ours.
    """
    return [sys.executable, "-P", "-m", "runner", verb, *arguments, "--parent", str(os.getpid())]


def own_environment() -> dict[str, str]:
    """This process's environment, in which ``own_command`` finds this installation."""
    places = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
