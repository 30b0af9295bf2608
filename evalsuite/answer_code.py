"""The code in an answer."""

from __future__ import annotations

import re

# ```python … ``` or ``` … ```; after the opening fence stands anything but a backtick (CommonMark
# 0.31, section 4.5). An answer cut off by the limit may lack the closing fence.
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def code_blocks(answer: str) -> list[str]:
    """Every fenced code block of ``answer``, without space around it."""
    return [found.group(1).strip() for found in _FENCE.finditer(answer)]


def python_source(answer: str) -> str:
    """The first fenced code block of ``answer``, or all of it; without space around it."""
    return next(iter(code_blocks(answer)), answer.strip())
