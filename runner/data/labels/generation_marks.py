"""What a chat template marks with ``{% generation %}``, compared with what is supervised here.

Templates made for training mark the assistant's text. The spans of this project are found without
these marks, so the two check each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from runner.data.labels.special_tokens import Spans

MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def has_marks(template: str) -> bool:
    """Whether a chat template marks the assistant's text."""
    return MARK.search(template) is not None


def marks_agree(
    supervised: Sequence[tuple[int, int, int]],
    marks: Spans,
    text: str,
    *,
    others: bool,
    after_stop: re.Pattern[str],
) -> bool:
    """Whether a template's marks are the supervised stretches, both as characters of ``text``.

    A stretch is (header, start, end), the generation prompt's own text being ``header`` to
    ``start``. Marks may hold a part of that, which a model is given and does not write. They may
    also reach over what follows the stop token, white space and at most one special token
    (``after_stop``), which a model that has stopped never comes to write. ``others`` allows marks
    that touch no supervised stretch: answers that are not trained on.
    """
    merged = _merged(marks)
    touched = 0
    for header, start, end in supervised:
        around = [mark for mark in merged if mark[0] < end and start < mark[1]]
        if len(around) != 1 or not header <= around[0][0] <= start or around[0][1] < end:
            return False
        if after_stop.sub("", text[end : around[0][1]], count=1).strip():
            return False
        touched += 1
    return others or touched == len(merged)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that touch made one, empty ones left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
