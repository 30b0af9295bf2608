"""Python syntax: whether an answer is source that Python can parse."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.answer_code import python_source
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric


class PythonSyntax(ItemMetric):
    """1 where the answer's code parses and is not empty, 0 elsewhere."""

    description = "Share of answers whose code (a code fence aside) Python can parse."
    library = "ast"
    figures: Mapping[str, Figure] = {"python_syntax": GENERATION["python_syntax"]}

    @property
    def signature(self) -> str:
        """The grammar's version."""
        return f"ast.parse of Python {sys.version_info.major}.{sys.version_info.minor}"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """1.0 or 0.0 for every item."""
        return {"python_syntax": [float(parses(python_source(answer))) for answer in predictions]}


def parses(source: str) -> bool:
    """Whether ``source`` is a Python program of at least one statement."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(ast.parse(source).body)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
