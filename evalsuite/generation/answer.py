"""An answer, and how it is read out of the tokens that a model wrote."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tokens beyond those of a stop string's bytes that are looked through for it at every step: tokens
# that give no text, such as special ones, may lie between its parts.
_SLACK_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model wrote after one prompt.

    ``token_ids`` are the new tokens, the stop token included; empty where a server does not tell
    them, and then ``counted_tokens`` is how many it counted. ``finished`` says that a stop token or
    a stop string ended the answer and not the limit; ``text`` is free of special tokens, of what a
    model writes before an answer (reasoning, a channel's name), and of all from a stop string on.
    ``unfinished_thinking`` says that the limit came before the answer began: ``text`` is empty.
    """

    text: str
    token_ids: tuple[int, ...]
    finished: bool
    unfinished_thinking: bool = False
    counted_tokens: int | None = None

    @property
    def new_tokens(self) -> int:
        """How many tokens the model wrote."""
        return len(self.token_ids) if self.counted_tokens is None else self.counted_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReader:
    """Reads answers out of new tokens.

    ``marker`` is text, special tokens included, after whose last occurrence an answer begins; empty
    where a model writes nothing before it. ``stop`` are texts that end an answer and are no part of
    it; they are looked for in the answer alone, not in the reasoning before it.
    """

    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: frozenset[int]
    stop: tuple[str, ...] = ()
    marker: str = ""

    def read(self, token_ids: Sequence[int]) -> Answer:
        """The answer in ``token_ids``; tokens after the first stop token are padding."""
        stops = (n for n, token in enumerate(token_ids, 1) if token in self.stop_token_ids)
        end = next(stops, None)
        kept = tuple(token_ids[:end])
        text, begun = self._after_marker(kept)
        if not begun and end is None:
            return Answer(text="", token_ids=kept, finished=False, unfinished_thinking=True)
        text, stopped = cut_before(text, self.stop)
        return Answer(text=text, token_ids=kept, finished=stopped or end is not None)

    def read_text(self, text: str, *, finished: bool, counted_tokens: int) -> Answer:
        """The answer in the ``text`` that a server gives where it does not tell the tokens.

        ``finished`` says that it did not come to the limit. What follows the name of a stop token
        that is a special one is padding here too, though most servers leave it out.
        """
        special = self.tokenizer.all_special_tokens
        written = (self._text([token], special=True) for token in sorted(self.stop_token_ids))
        ends = [name for name in written if name in special]
        text, ended = cut_before(text, ends)
        _, found, after = text.rpartition(self.marker) if self.marker else ("", "", text)
        begun = bool(found) or not self.marker
        over = begun or finished or ended
        answer, stopped = cut_before(after.lstrip() if found else after, self.stop)
        return Answer(
            text=answer if over else "",
            token_ids=(),
            finished=finished or ended or (over and stopped),
            unfinished_thinking=not over,
            counted_tokens=counted_tokens,
        )

    def is_stopped(self, token_ids: Sequence[int]) -> bool:
        """Whether the answer in ``token_ids`` holds a stop string; cheap at every step."""
        if not self.stop:
            return False
        window = max(len(text.encode()) for text in self.stop) + _SLACK_TOKENS
        tail = self._text(token_ids[-window:])
        if not any(text in tail for text in self.stop):
            return False
        text, begun = self._after_marker(token_ids)
        return begun and cut_before(text, self.stop)[1]

    def _text(self, ids: Sequence[int], *, special: bool = False) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=not special))

    def _after_marker(self, ids: Sequence[int]) -> tuple[str, bool]:
        """Text of ``ids`` from the last marker on, and whether there is one or need be none.

        The marker may hold special tokens and share a token with the answer, so it is looked for in
        the text of ever more tokens: the first that hold as many markers as all of them end with
        the last.
        """
        total = self._text(ids, special=True).count(self.marker) if self.marker else 0
        if not total:
            return self._text(ids), not self.marker
        counts = range(len(ids) + 1)
        end = bisect_left(
            counts, total, key=lambda n: self._text(ids[:n], special=True).count(self.marker)
        )
        shared = self._text(ids[:end], special=True).rpartition(self.marker)[2]
        # The white space between marker and answer is the template's.
        return (shared + self._text(ids[end:])).lstrip(), True


def cut_before(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """``text`` up to the first of the ``stop`` strings in it, and whether there is one."""
    places = [place for part in stop if (place := text.find(part)) >= 0]
    return (text[: min(places)], True) if places else (text, False)
