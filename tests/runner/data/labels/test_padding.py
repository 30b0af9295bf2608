from __future__ import annotations

import pytest

from runner.data.labels.padding import configure_padding
from runner.errors import DataError
from tests.runner.tiny_data import make_tokenizer


def test_the_recipes_token_is_set_and_none_keeps_the_tokenizers_own() -> None:
    tokenizer = make_tokenizer("mistral")
    configure_padding(tokenizer, None)
    assert tokenizer.pad_token == "<pad>"
    configure_padding(tokenizer, "<unk>")
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<unk>", 0)


def test_a_token_outside_the_vocabulary_is_refused_with_near_ones() -> None:
    tokenizer = make_tokenizer("mistral")
    with pytest.raises(
        DataError, match=r"'<pda>' is not in .*Near ones: <pad>.* `pad_token: '<pad>'`"
    ):
        configure_padding(tokenizer, "<pda>")
    assert len(tokenizer) == len(make_tokenizer("mistral"))


def test_the_end_token_is_refused() -> None:
    """trl#1623, alignment-handbook#127."""
    tokenizer = make_tokenizer("mistral")
    with pytest.raises(DataError, match=r"'</s>' is also the token that ends an answer"):
        configure_padding(tokenizer, "</s>")
    tokenizer.pad_token = "</s>"
    with pytest.raises(DataError, match=r"Write `pad_token: '<pad>'` under `model` \(or <unk>\)"):
        configure_padding(tokenizer, None)


def test_no_padding_token_says_what_to_write() -> None:
    tokenizer = make_tokenizer("mistral")
    tokenizer.pad_token = None
    with pytest.raises(DataError, match=r"has no padding token\. Write `pad_token: '<pad>'`"):
        configure_padding(tokenizer, None)
