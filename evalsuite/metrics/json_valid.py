"""JSON validity: whether an answer is one JSON value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric


class JsonValid(ItemMetric):
    """1 where the answer, white space around it aside, is JSON by RFC 8259; 0 elsewhere."""

    description = "Share of answers that are one JSON value and nothing else; NaN is none."
    citation = "Bray (2017). RFC 8259."
    library = "json"
    figures: Mapping[str, Figure] = {"json_valid": GENERATION["json_valid"]}

    @property
    def signature(self) -> str:
        """The grammar."""
        return "RFC 8259"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """1.0 or 0.0 for every item."""
        del references, columns
        return {"json_valid": [float(json_value(answer) is not NO_VALUE) for answer in predictions]}


class _NoValue:
    """No JSON value, which None would be."""


NO_VALUE = _NoValue()


def json_value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value that ``text`` is as JSON, or ``NO_VALUE``."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NO_VALUE


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
