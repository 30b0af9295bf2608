"""JSON Schema: whether an answer is JSON of the declared shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from evalsuite.errors import EvaluationError
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric
from evalsuite.metrics.json_valid import NO_VALUE, json_value

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


class JsonSchema(ItemMetric):
    """1 where the answer is JSON that the schema allows, 0 elsewhere."""

    description = "Share of answers that are one JSON value which `schema` allows."
    citation = "JSON Schema, draft 2020-12 unless the schema names another."
    library = "jsonschema"
    figures: Mapping[str, Figure] = {"json_schema": GENERATION["json_schema"]}

    def __init__(self, *, schema: Mapping[str, Any] | None = None, **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take the schema itself.

        Raises:
            EvaluationError: There is none, or it is no JSON Schema.
        """
        if schema is None:
            raise EvaluationError("json_schema needs its option schema: the JSON Schema itself.")
        self._schema = dict(schema)
        self._validator = _validator(self._schema)
        super().__init__(**settings)

    @property
    def signature(self) -> str:
        """The library's version and the schema's digest."""
        canonical = json.dumps(self._schema, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return f"jsonschema {version('jsonschema')}, schema sha256 {digest}"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """1.0 or 0.0 for every item."""
        del references, columns
        return {"json_schema": [float(self._allows(answer)) for answer in predictions]}

    def _allows(self, answer: str) -> bool:
        from referencing.exceptions import Unresolvable

        value = json_value(answer)
        if value is NO_VALUE:
            return False
        try:
            return self._validator.is_valid(value)
        except (RecursionError, OverflowError):  # too deep; 1e999 under multipleOf
            return False
        except Unresolvable as error:
            raise EvaluationError(
                f"json_schema: the schema refers to {error.ref}, which is not in it. Schemas are "
                "not fetched: put the definition under $defs."
            ) from error


def _validator(schema: dict[str, Any]) -> Validator:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing.jsonschema import EMPTY_REGISTRY

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise EvaluationError(f"json_schema: this is no JSON Schema: {error.message}") from error
    # With a registry that is given, a reference to the web is an error and never fetched.
    return kind(schema, registry=EMPTY_REGISTRY)
