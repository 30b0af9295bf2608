"""``proofbox schema``: print the JSON Schema of recipes, or of benchmark files."""

from __future__ import annotations

import sys
from typing import Literal

from runner.recipe_reading.recipe_schema import BENCHMARK_SCHEMA_FILE, SCHEMA_FILE, schema_text

_FILES = {"recipe": SCHEMA_FILE, "benchmark": BENCHMARK_SCHEMA_FILE}


def schema(of: Literal["recipe", "benchmark"] = "recipe") -> None:
    """Print the schema, for an editor or to see every key with its meaning and default."""
    sys.stdout.write(schema_text(_FILES[of]))
