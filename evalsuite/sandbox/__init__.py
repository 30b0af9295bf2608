"""Programs written by a model, run in a sandbox; `docs/sandbox.md` says what each backend holds."""

from __future__ import annotations

from evalsuite.sandbox.backend import Backend, load_backend
from evalsuite.sandbox.preflight import check_backend, describe
from evalsuite.sandbox.program import Execution, Outcome, Program
from evalsuite.sandbox.running import run_programs

__all__ = [
    "Backend",
    "Execution",
    "Outcome",
    "Program",
    "check_backend",
    "describe",
    "load_backend",
    "run_programs",
]
