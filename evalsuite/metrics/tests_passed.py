"""Tests passed: whether an answer's code does what its example's unit tests ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.answer_code import python_source
from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric
from evalsuite.records import CodeExecution
from evalsuite.sandbox import Program, describe, run_programs


class TestsPassed(ItemMetric):
    """1 where the tests ran to their end after the answer's code, 0 elsewhere."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    description = "Share of answers whose code passes the unit tests of its example."
    figures: Mapping[str, Figure] = {"tests_passed": GENERATION["tests_passed"]}
    columns = ("tests",)

    def __init__(self, *, code_execution: CodeExecution | None = None, **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take where the answers' code is run; nowhere if None.

        Raises:
            EvaluationError: It is None.
            SandboxError: The backend is not there.
        """
        if code_execution is None:
            raise EvaluationError(
                "tests_passed runs code that a model wrote; name where in "
                "evaluation.code_execution, for example backend: bubblewrap."
            )
        self._execution = code_execution
        self.code_execution = describe(code_execution)
        super().__init__(**settings)

    @property
    def signature(self) -> str:
        """Backend with its version, interpreter and limits."""
        return str(self.code_execution)

    def check(self, examples: Sequence[Example], references: Sequence[str]) -> None:
        """Every example has tests."""
        del references
        _require_tests([example.tests for example in examples])

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[str]
    ) -> dict[str, list[float]]:
        """1.0 or 0.0 for every item.

        Raises:
            EvaluationError: An example has no tests.
        """
        tests = columns["tests"]
        _require_tests(tests)
        programs = [
            Program(source=python_source(answer), tests=source)
            for answer, source in zip(predictions, tests, strict=True)
        ]
        executions = run_programs(programs, self._execution)
        return {"tests_passed": [float(done.outcome == "passed") for done in executions]}


def _require_tests(tests: Sequence[str]) -> None:
    for place, source in enumerate(tests):
        if not source.strip():
            raise EvaluationError(
                f"tests_passed: example {place} of the task has no tests; map a column to "
                "`tests` in the recipe, or drop this metric."
            )
