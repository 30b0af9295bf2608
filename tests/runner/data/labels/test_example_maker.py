"""Rows to labelled examples: what is broken, what is counted, what other processes get."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.data.labels.example_maker import ExampleMaker, MadeExamples, example_maker
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.labels.text_encoder import TextEncoder
from runner.errors import DataError
from tests.runner.tiny_data import TEMPLATES, make_recipe, make_tokenizer

ROWS = [
    {"instruction": "Add 1 and 2.", "input": "", "output": "3"},
    {"instruction": "Say nothing.", "input": "", "output": " "},
    {"instruction": "What is </s>?", "input": "", "output": "The end."},
    {"instruction": "Add 3 and 4.", "input": "", "output": "7"},
]


def maker(**blocks: Any) -> ExampleMaker:
    kind = blocks.pop("kind", "bytes")
    template = {"chat": "tokenizer", **blocks.pop("template", {})}
    recipe = make_recipe(template=template, **blocks)
    tokenizer = make_tokenizer("mistral", kind)
    return example_maker(recipe, tokenizer, Path(), format_name="alpaca")


def rules(made: MadeExamples) -> list[tuple[int, str]]:
    return [(broken.row, broken.rule) for broken in made.broken]


def test_broken_rows_are_named_and_the_others_are_made() -> None:
    made = maker().make([10, 11, 12, 13], ROWS)
    assert made.labelled.rows.tolist() == [10, 11, 13]
    assert made.labelled.answers == ("3", " ", "7")
    assert made.labelled.questions == ("Add 1 and 2.", "Say nothing.", "Add 3 and 4.")
    assert rules(made) == [(11, "empty_answer"), (12, "special_token_in_text")]
    assert "the user's text holds '</s>'" in made.broken[1].detail


def turns(*answers: str, **keys: Any) -> dict[str, Any]:
    said = [
        [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": a}]
        for a in answers
    ]
    said[0][1].update(keys)
    return {"messages": [message for pair in said for message in pair]}


@pytest.mark.parametrize("loss_on", ["assistant_turns", "completion"])
def test_an_empty_answer_in_any_turn_that_is_trained_on_is_found(loss_on: str) -> None:
    recipe = make_recipe(template={"loss_on": loss_on}, dataset={"format": "messages"})
    chat = example_maker(recipe, make_tokenizer("chatml"), Path(), format_name="messages")
    rows = [turns("3", "7"), turns(" ", "7"), turns("3", " "), turns(" ", "7", train=False)]
    made = chat.make(range(4), rows)
    found = [(b.row, b.rule, b.detail) for b in made.broken]
    empty = "empty_answer"
    if loss_on == "completion":
        assert found == [(2, empty, "the answer is ' '")]
    else:
        of = "of the 2 that are trained on"
        assert found == [
            (1, empty, f"the answer is ' ' in turn 1 {of}"),
            (2, empty, f"the answer is ' ' in turn 2 {of}"),
        ]


def test_the_digest_has_the_padding_token_where_the_template_writes_it() -> None:
    for template, alike in (
        (TEMPLATES["chatml"], True),
        ("{{ pad_token }}" + TEMPLATES["chatml"], False),
    ):
        digests = set()
        for pad in ("<pad>", "<unk>"):
            tokenizer = make_tokenizer(template)
            tokenizer.pad_token = pad
            made = example_maker(make_recipe(), tokenizer, Path(), format_name="alpaca")
            digests.add(made.template_digest)
        assert (len(digests) == 1) == alike


def test_an_escaped_row_is_made_and_counted() -> None:
    escaping = maker(dataset={"violations": {"special_token_in_text": "escape"}})
    made = escaping.make(range(4), ROWS)
    assert made.labelled.rows.tolist() == [0, 1, 2, 3]
    assert rules(made) == [(1, "empty_answer")]
    assert made.counts["escaped"] == 1
    assert "rows with a special token's name in their text, kept as text: 1" in escaping.notes(
        made.counts
    )
    assert escaping.template_digest != maker().template_digest


def test_a_row_that_the_template_refuses_is_unusable() -> None:
    made = maker(template={"system": "Be brief."}).make([5], ROWS[:1])
    assert rules(made) == [(5, "unusable_row")]
    assert made.broken[0].detail == "has a system message, which the chat template does not render"
    assert len(made.labelled.rows) == 0


def test_rows_that_are_too_long_are_no_examples() -> None:
    made = maker(template={"max_length": 3}).make(range(2), ROWS[:2])
    assert len(made.labelled.rows) == 0
    assert [row for row, _ in made.too_long] == [0, 1]


def test_a_maker_that_was_sent_to_another_process_makes_the_same() -> None:
    first = maker(dataset={"violations": {"special_token_in_text": "escape"}})
    sent = pickle.loads(pickle.dumps(first))
    assert sent.template_digest == first.template_digest
    for ours, theirs in zip(
        (made := first.make(range(4), ROWS).labelled).input_ids.values,
        sent.make(range(4), ROWS).labelled.input_ids.values,
        strict=True,
    ):
        assert ours == theirs
    assert len(made.rows) == 4


def test_a_padding_token_that_ends_answers_is_refused() -> None:
    tokenizer = make_tokenizer("mistral")
    tokenizer.pad_token = "</s>"
    with pytest.raises(DataError, match="also the token that ends an answer"):
        example_maker(make_recipe(), tokenizer, Path(), format_name="alpaca")


def test_taken_rows_are_the_rows() -> None:
    labelled = maker().make(range(4), ROWS).labelled
    taken = labelled.take([2, 0])
    assert taken.rows.tolist() == [3, 0]
    assert taken.answers == ("7", "3")
    for place, index in enumerate((2, 0)):
        assert taken.input_ids.row(place) == labelled.input_ids.row(index)
        assert taken.prompt_ids.row(place) == labelled.prompt_ids.row(index)
        a, b = labelled.input_ids.offsets[index : index + 2]
        c, d = taken.input_ids.offsets[place : place + 2]
        assert (taken.labels[c:d] == labelled.labels[a:b]).all()
    assert labelled.take([]).input_ids.values.tolist() == []
    assert labelled.take(np.array([1])).supervised == labelled.supervised[1:2]
    contract = Contract(
        chat=maker().chat, loss_on="completion", tokenizer=maker().tokenizer, vocabulary=10_000
    )
    assert ContractCheck(contract).check(taken) == {}


@pytest.mark.parametrize("kind", ["bytes", "trimmed", "nfc", "sentencepiece", "metaspace"])
def test_ids_are_those_of_the_tokenizer_s_own_call(kind: str) -> None:
    """Also after a call that left truncation and padding behind."""
    tokenizer = make_tokenizer("chatml", kind)
    texts = [TEMPLATES["chatml"], "<|im_start|>user\nnaïve 🙂<|im_end|>\n", "", " a  b"]
    tokenizer(texts, padding=True, truncation=True, max_length=2)
    ours = TextEncoder(tokenizer).ids(texts)
    assert ours == tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert max(map(len, ours)) > 2
