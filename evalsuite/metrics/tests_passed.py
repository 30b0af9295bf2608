"""Tests passed: whether an answer's code does what its example's unit tests ask."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

from evalsuite.answer_code import python_source
from evalsuite.code_execution import BACKEND, Limits, Program, run_programs
from evalsuite.errors import EvaluationError
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric


class TestsPassed(ItemMetric):
    """1 where the tests ran to their end after the answer's code, 0 elsewhere."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    description = "Share of answers whose code passes the unit tests of its example."
    figures: ClassVar[Mapping[str, Figure]] = {"tests_passed": GENERATION["tests_passed"]}
    columns = ("tests",)
    code_execution = BACKEND

    @property
    def signature(self) -> str:
        """Backend, limits and interpreter."""
        limits = Limits()
        return (
            f"{BACKEND}, Python {sys.version_info.major}.{sys.version_info.minor}, "
            f"{limits.seconds} s, {limits.memory_bytes // 2**20} MiB"
        )

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[str]
    ) -> dict[str, list[float]]:
        """1.0 or 0.0 for every item.

        Raises:
            EvaluationError: An example has no tests.
        """
        tests = columns["tests"]
        for place, source in enumerate(tests):
            if not source.strip():
                raise EvaluationError(
                    f"tests_passed: example {place} of the task has no tests; map a column to "
                    "`tests` in the recipe, or drop this metric."
                )
        programs = [
            Program(source=python_source(answer), tests=source)
            for answer, source in zip(predictions, tests, strict=True)
        ]
        executions = run_programs(programs)
        return {"tests_passed": [float(done.outcome == "passed") for done in executions]}
