"""``proofbox schema``: print the JSON Schema of recipes."""

from __future__ import annotations

import sys

from runner.recipe_reading.recipe_schema import schema_text


def schema() -> None:
    """Print the schema, for an editor or to see every key with its meaning and default."""
    sys.stdout.write(schema_text())
