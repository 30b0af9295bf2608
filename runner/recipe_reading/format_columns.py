"""The built-in dataset formats and their columns, as rules across keys need them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

# format -> the keys of ``dataset.columns`` without which it has nothing to read.
REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
_EVALUATION = ("slice", "cluster")  # read of rows of every format
# format -> all keys of ``dataset.columns`` that are read with it.
FORMAT_COLUMNS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "input", "output", "tests", *_EVALUATION),
    "messages": ("messages", "tools", "tests", *_EVALUATION),
    "sharegpt": ("conversations", "tools", "tests", *_EVALUATION),
    "prompt_completion": ("prompt", "completion", "tests", *_EVALUATION),
    "text": ("text", *_EVALUATION),
}


@cache
def plugin_formats() -> frozenset[str]:
    """Names of the formats that installed packages add (entry points ``proofbox.formats``)."""
    return frozenset(point.name for point in entry_points(group="proofbox.formats"))
