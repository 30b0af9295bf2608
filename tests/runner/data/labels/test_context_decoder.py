"""Ids read back: bytes joined here are what the tokenizer's own decoder gives."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders

from runner.data.labels.context_decoder import ContextDecoder
from tests.runner.tiny_data import make_tokenizer

# Texts that no byte-level alphabet holds, that it holds by chance, and that are both.
ADDED = ("<a b>", "<\uff5cend\uff5c>", "ĠĊ", "Ġ\u2581x", "é\u0301 \U0001f642", "\u0100", "\n\n")


@cache
def byte_level() -> Any:
    tokenizer = make_tokenizer(None)
    added = [AddedToken(text, special=n % 2 == 0, normalized=False) for n, text in enumerate(ADDED)]
    tokenizer.add_tokens(added)
    return tokenizer


@cache
def alphabet() -> list[int]:
    """Ids of the tokens of one byte: most sequences of them are no UTF-8."""
    vocabulary = byte_level().get_vocab()
    return sorted(number for token, number in vocabulary.items() if len(token) == 1)


IDS = st.one_of(
    st.integers(0, 520),
    st.integers(0, 255).map(lambda place: alphabet()[place % len(alphabet())]),
    st.integers(0, len(ADDED) - 1).map(lambda n: byte_level().convert_tokens_to_ids(ADDED[n])),
    st.just(2**31 - 1),
)


@given(st.lists(st.lists(IDS, max_size=12), max_size=4))
@example([[], [2**31 - 1]])
def test_joined_bytes_are_what_a_byte_level_decoder_gives(rows: list[list[int]]) -> None:
    backend = byte_level().backend_tokenizer
    theirs = backend.decode_batch(rows, skip_special_tokens=False)
    assert ContextDecoder(byte_level()).texts(rows) == theirs


def test_every_token_reads_as_the_decoder_reads_it() -> None:
    backend = byte_level().backend_tokenizer
    rows = [[number] for number in range(len(byte_level()))]
    theirs = backend.decode_batch(rows, skip_special_tokens=False)
    assert ContextDecoder(byte_level()).texts(rows) == theirs
    assert any("\ufffd" in text for text in theirs)


def test_every_pair_of_bytes_reads_as_the_decoder_reads_it() -> None:
    backend = byte_level().backend_tokenizer
    rows = [[first, second] for first in alphabet() for second in alphabet()]
    theirs = backend.decode_batch(rows, skip_special_tokens=False)
    assert ContextDecoder(byte_level()).texts(rows) == theirs


def test_an_id_that_no_tokenizer_has_is_refused_as_its_decoder_does() -> None:
    for decode in (ContextDecoder(byte_level()).texts, byte_level().backend_tokenizer.decode_batch):
        with pytest.raises(OverflowError):
            decode([[5, -1]])


def test_a_decoder_that_does_more_than_join_bytes_decides_itself() -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("sum", "SUM")]
    )
    ids = tokenizer("the sum of")["input_ids"]
    assert ContextDecoder(tokenizer).texts([ids]) == ["the SUM of"]
