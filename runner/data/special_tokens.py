"""The tokens that are one id and no text: what begins, ends and separates turns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The tokenizer's special tokens, as text -> id, in order of their ids."""
    found = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
        found.setdefault(token, number)
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches the text of any of ``tokens``, the longest first; nothing where there is none."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
