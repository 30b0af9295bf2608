"""The committed tokenizer and its chat template."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pretraining.tokenizer import CHAT_TEMPLATE, train_tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "recipes/quickstart"
TOKENIZER: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(FOLDER / "model")
TURNS = [
    {"role": "user", "content": "Write f."},
    {"role": "assistant", "content": "def f(): pass"},
    {"role": "user", "content": "And g?"},
    {"role": "assistant", "content": "def g(): pass"},
]


def test_special_tokens() -> None:
    assert TOKENIZER.convert_ids_to_tokens([0, 1, 2]) == ["<unk>", "<s>", "</s>"]
    assert (TOKENIZER.pad_token, TOKENIZER.eos_token) == ("<unk>", "</s>")
    assert len(TOKENIZER) == 1024
    assert TOKENIZER.chat_template == CHAT_TEMPLATE


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_survives_a_round_trip(text: str) -> None:
    plain = text.replace("<s>", "").replace("</s>", "").replace("<unk>", "")
    ids = TOKENIZER(plain, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids) == plain


def test_a_conversation() -> None:
    text = TOKENIZER.apply_chat_template(TURNS, tokenize=False)
    assert text == (
        "<s>[INST] Write f. [/INST] def f(): pass</s>[INST] And g? [/INST] def g(): pass</s>"
    )


def test_a_system_message_joins_the_first_user_message() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *TURNS[:3]]
    text = TOKENIZER.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<s>[INST] Be brief.\n\nWrite f. [/INST] def f(): pass</s>[INST] And g? [/INST]"


@pytest.mark.parametrize("add", [False, True])
def test_one_beginning_of_sequence(add: bool) -> None:
    text = TOKENIZER.apply_chat_template(TURNS, tokenize=False)
    ids = TOKENIZER(text, add_special_tokens=add)["input_ids"]
    assert ids.count(TOKENIZER.bos_token_id) == 1
    assert ids[0] == TOKENIZER.bos_token_id
    assert ids[-1] == TOKENIZER.eos_token_id
    assert ids == TOKENIZER.apply_chat_template(TURNS)["input_ids"]


@pytest.mark.parametrize("answer", ["def f(): pass", "\n\n  x", ".5", "", "]", "é", "[/INST]"])
def test_the_generation_prompt_is_a_prefix(answer: str) -> None:
    turns = [TURNS[0], {"role": "assistant", "content": answer}]
    prompt = TOKENIZER.apply_chat_template(turns[:1], add_generation_prompt=True)["input_ids"]
    whole = TOKENIZER.apply_chat_template(turns)["input_ids"]
    assert whole[: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (["assistant"], "message 1 has the role assistant where user is due"),
        (["user", "user"], "message 2 has the role user where assistant is due"),
        (["system", "assistant"], "message 2 has the role assistant where user is due"),
        (["user", "system"], "message 2 has the role system where assistant is due"),
        (["user", "tool"], "message 2 has the role tool where assistant is due"),
    ],
)
def test_roles_that_do_not_alternate(roles: list[str], message: str) -> None:
    turns = [{"role": role, "content": "x"} for role in roles]
    with pytest.raises(jinja2.TemplateError, match=message):
        TOKENIZER.apply_chat_template(turns, tokenize=False)


def test_no_generation_after_an_answer() -> None:
    with pytest.raises(jinja2.TemplateError, match="only after a user message"):
        TOKENIZER.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True)


def test_the_rows_are_short() -> None:
    lines = (FOLDER / "functions.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["output"] for line in lines]
    lengths = [len(ids) for ids in TOKENIZER(answers, add_special_tokens=False)["input_ids"]]
    assert max(lengths) <= 90  # the recipe generates up to 96 tokens
    assert sum(lengths) / len(lengths) < 45


def test_training_is_deterministic() -> None:
    texts = ["def f(x):\n    return x + 1\n", "total = sum(numbers)\n"] * 20
    first, second = (train_tokenizer(iter(texts), vocabulary=300) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
