"""What can go wrong while evidence is gathered or judged."""

from __future__ import annotations


class EvaluationError(Exception):
    """An evaluation that cannot be trusted or cannot be done; the message says what to mend."""


class EvidenceError(EvaluationError):
    """Stored results that are missing, damaged, or not comparable with each other."""


class StatisticsError(EvaluationError):
    """Numbers from which no honest interval can be made."""


class SandboxError(EvaluationError):
    """A backend for running code that is missing, does not work here, or cannot hold a limit."""
