"""Token ids back to text, as they read in the middle of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from runner.data.labels.special_tokens import any_of, special_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


class TokenBytes(dict[int, bytes]):
    """The bytes of byte-level tokens by id, found out when first asked for; none of unknown ids."""

    def __init__(self, backend: Tokenizer) -> None:
        """Begin with no token known."""
        super().__init__()
        self._backend = backend

    def __missing__(self, token_id: int) -> bytes:
        token = self._backend.id_to_token(token_id) or ""
        try:
            found = bytes(map(_byte_of_character().__getitem__, token))
        except KeyError:  # an added token, which is kept as text
            found = token.encode()
        self[token_id] = found
        return found


@cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable characters of Latin-1 stand for themselves, others are moved."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = sorted(set(range(256)) - set(own))
    characters = {chr(byte): byte for byte in own}
    return characters | {chr(256 + place): byte for place, byte in enumerate(moved)}


@dataclass(frozen=True)
class ContextDecoder:
    """Decodes tokens as they read in the middle of a text.

    Sentencepiece decoders drop the first space of what they are given, so ids are decoded after an
    anchor, whose own text is taken off. Byte-level decoders do nothing but join bytes, which is
    done here many times as fast.
    """

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def _anchor(self) -> tuple[int, int]:
        """Id of an ordinary token and the length of its text."""
        token = int(self.tokenizer("a", add_special_tokens=False)["input_ids"][-1])
        return token, len(self._decode([[token]])[0])

    @cached_property
    def prefix(self) -> str:
        """What the tokenizer puts before a text and after special tokens: a space, or nothing."""
        ids = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        return self.texts([ids])[0].removesuffix("a")

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids, special tokens included."""
        if self._bytes is not None:
            joined = (b"".join(map(self._bytes.__getitem__, ids)) for ids in rows)
            return [text.decode("utf-8", "replace") for text in joined]
        anchor, length = self._anchor
        return [text[length:] for text in self._decode([[anchor, *ids] for ids in rows])]

    def reads(self, ids: Sequence[int], text: str) -> bool:
        """Whether ids read as ``text``, but for what the tokenizer puts after special tokens."""
        (found,) = self.texts([ids])
        return found == text or self._same(found, text, first=False)

    def differ(self, found: str, wanted: str) -> bool:
        """Whether decoded text is another than ``wanted``, as far as the tokenizer can keep it.

        One that normalizes its input (NFC, say) or puts a space after special tokens cannot give
        a text back otherwise, so the two are compared as it would have them.
        """
        if self._same(found, wanted, first=True):
            return False
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        if normalizer is None:
            return True
        found, wanted = normalizer.normalize_str(found), normalizer.normalize_str(wanted)
        return not self._same(found, wanted, first=True)

    def _same(self, found: str, wanted: str, *, first: bool) -> bool:
        """Whether ``found`` is ``wanted`` with the prefix put after some of its special tokens.

        ``first`` allows the prefix at the beginning too.
        """
        if found == wanted or not self.prefix:
            return found == wanted
        place = begin = 0
        for end in [*(match.end() for match in self._special.finditer(wanted)), len(wanted)]:
            part = wanted[begin:end]  # text up to a special token, and that
            if not found.startswith(part, place) and (first or begin):
                part = self.prefix + part
            if not found.startswith(part, place):
                return False
            place, begin = place + len(part), end
        return place == len(found)

    @cached_property
    def _bytes(self) -> TokenBytes | None:
        """Bytes of tokens; None where the decoder does more than join them."""
        from tokenizers.decoders import ByteLevel

        backend = self.tokenizer.backend_tokenizer
        return TokenBytes(backend) if type(backend.decoder) is ByteLevel else None

    @cached_property
    def _special(self) -> re.Pattern[str]:
        return any_of(special_tokens(self.tokenizer))

    def _decode(self, rows: list[list[int]]) -> list[str]:
        backend = self.tokenizer.backend_tokenizer
        return list(backend.decode_batch(rows, skip_special_tokens=False))
