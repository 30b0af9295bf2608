"""A program that an answer gave, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "stopped", "timed out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Source that an answer gave, and the tests that run after it."""

    source: str
    tests: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a program ended.

    ``passed``: the tests ran to their end. ``failed``: an exception, its first line in
    ``message``. ``stopped``: the process ended without a report (an exit, a crash, a limit).
    """

    outcome: Outcome
    message: str
