"""The Python source in an answer."""

from __future__ import annotations

import re

# ```python … ``` or ``` … ```; an answer cut off by the limit may lack the closing fence.
_FENCE = re.compile(r"^[ \t]*```[ \t]*\w*[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def python_source(answer: str) -> str:
    """The first fenced code block of ``answer``, or all of it; without space around it."""
    fenced = _FENCE.search(answer)
    return (answer if fenced is None else fenced.group(1)).strip()
