"""Text to token ids: of whole texts, of pieces that go on after other text, of escaped names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runner.data.labels.context_decoder import ContextDecoder
from runner.data.labels.special_tokens import Spans, SpecialTokenError, any_of, special_tokens

if TYPE_CHECKING:
    import re

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

ANCHORS = "\na.0-"  # characters to tokenize a piece after: one of them does not merge with it
REMEMBERED = 4096  # endings of prompts whose ids are kept


@dataclass
class TextEncoder:
    """Encodes rendered texts. The template writes the special tokens, so none are added."""

    tokenizer: PreTrainedTokenizerBase
    _endings: dict[tuple[str, str], list[int] | None] = field(default_factory=dict)

    @cached_property
    def special(self) -> dict[str, int]:
        """The special tokens, text -> id."""
        return special_tokens(self.tokenizer)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches any special token's text."""
        return any_of(self.special)

    @cached_property
    def is_special(self) -> NDArray[np.bool_]:
        """Whether an id is a special token that only its own text gives: [ids]."""
        ids = [i for i in self.special.values() if i != self.tokenizer.unk_token_id]
        size = max([len(self.tokenizer), *(i + 1 for i in self.special.values())])
        table = np.zeros(size, dtype=np.bool_)
        table[ids] = True
        return table

    @cached_property
    def splits_at_special(self) -> bool:
        """Whether special tokens are found before a text is normalized.

        Then what lies between two of them is tokenized on its own, whatever stands around it.
        """
        added = self.tokenizer.added_tokens_decoder.values()
        return not any(token.normalized for token in added if token.special)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole texts."""
        encodings = self._backend(special_as_text=False).encode_batch_fast(
            list(texts), add_special_tokens=False
        )
        return [encoding.ids for encoding in encodings]

    def after_special(self, token: str, text: str) -> list[int] | None:
        """Ids of a prompt's ending that follows a special token; None where they cannot be told.

        Prompts of a dataset mostly end alike, so these are remembered.
        """
        key = (token, text)
        if key not in self._endings:
            if len(self._endings) >= REMEMBERED:
                self._endings.clear()
            (ids,) = self.ids([token + text])
            known = self.splits_at_special and ids[:1] == [self.special[token]]
            self._endings[key] = ids[1:] if known else None
        return self._endings[key]

    def piece(self, text: str, escaped: Spans = (), *, first: bool = False) -> list[int]:
        """Ids of a piece of a text, with the names at ``escaped`` (start, end) in it as text.

        ``first`` says that no text goes before.

        Raises:
            SpecialTokenError: this tokenizer cannot write such a name as text.
        """
        ids: list[int] = []
        place = 0
        for start, end in escaped:
            ids += self._piece(text[place:start], first=first and place == 0)
            ids += self._escaped(text[start:end], first=first and start == 0)
            place = end
        return ids + self._piece(text[place:], first=first and place == 0)

    def _escaped(self, name: str, *, first: bool) -> list[int]:
        try:
            ids = self._piece(name, first=first, special_as_text=True)
        finally:  # the tokenizer is shared
            self._backend(special_as_text=False)
        if self.is_special[ids].any():
            raise SpecialTokenError(
                f"the conversation's text holds {name!r}, which cannot be escaped: the tokenizer "
                "makes it a special token"
            )
        return ids

    def _piece(self, text: str, *, first: bool, special_as_text: bool = False) -> list[int]:
        """Ids of text that goes on after other text, unless it is the ``first``.

        Sentencepiece tokenizers put a space before what they are given. Where the piece does not
        read as it should on its own, it is tokenized after a character whose ids are taken off.
        """
        if not text:
            return []

        def encode(part: str) -> list[int]:
            backend = self._backend(special_as_text=special_as_text)
            ids: list[int] = backend.encode(part, add_special_tokens=False).ids
            return ids

        ids = encode(text)
        if first or self.decoder.reads(ids, text):
            return ids
        for before in ANCHORS:
            alone, followed = encode(before), encode(before + text)
            rest = followed[len(alone) :]
            if followed[: len(alone)] == alone and self.decoder.reads(rest, text):
                return rest
        return ids  # the label contract judges whether this will do

    def _backend(self, *, special_as_text: bool) -> Tokenizer:
        """The tokenizer's own backend, with whatever a call of it has left behind undone."""
        backend: Tokenizer = self.tokenizer.backend_tokenizer
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        if backend.encode_special_tokens != special_as_text:
            backend.encode_special_tokens = special_as_text
        return backend

    @cached_property
    def decoder(self) -> ContextDecoder:
        """Decodes in context."""
        return ContextDecoder(self.tokenizer)
