"""For any conversation: the supervised tokens read as the answer, or the row breaks a rule."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_template import ChatTemplate, LossOn, probe_chat_template
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.labels.rendering import render_conversation
from runner.data.labels.special_tokens import SpecialTokenError
from runner.data.labels.text_encoder import TextEncoder
from runner.data.labels.tokenization import label, question_token_ids, tokenize
from runner.data.reading.row_template import RowError
from tests.runner.data.labels.trl_templates import FOLDER
from tests.runner.tiny_data import TEMPLATES, make_tokenizer

KINDS = ("bytes", "trimmed", "nfc", "sentencepiece", "metaspace")
NAMES = (*TEMPLATES, "qwen3")
MARKERS = (
    "[INST]", " [/INST] ", "Question: ", "\nAnswer:", "<think>", "\n</think>\n\n", "user\n",
    "assistant", "{{ bos_token }}", "{% endfor %}",
)  # fmt: skip
SPECIAL = ("</s>", "<s>", "<unk>", "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<pad>")
SCRIPTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        [
            *("שלום עולם", "مرحبا", "नमस्ते", "日本語です", "한국어", "ไทย", "e\u0301\u0327"),
            *(
                "🙂\u200d↔️👩🏽\u200d🚀",
                "\u202eabc\u202c",
                "\u00a0",
                "  ",
                "\n\n",
                "\t",
                "\r\n",
                "\x00",
            ),
            *("a b", "\ufffd", "\ue000"),
        ]
    ),
)
TEXT = st.lists(st.one_of(SCRIPTS, st.sampled_from(MARKERS)), max_size=5).map("".join)
HOSTILE = st.lists(
    st.one_of(SCRIPTS, st.sampled_from(MARKERS), st.sampled_from(SPECIAL)), max_size=5
).map("".join)


@cache
def made(name: str, kind: str) -> tuple[ChatTemplate, Any]:
    text = TEMPLATES.get(name) or (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = make_tokenizer(text, kind)
    return probe_chat_template(text, tokenizer), tokenizer


def talk(turns: list[tuple[str, str]]) -> Conversation:
    return Conversation(
        messages=tuple(
            {"role": role, "content": text}
            for pair in turns
            for role, text in zip(("user", "assistant"), pair, strict=True)
        )
    )


def check(
    name: str, kind: str, turns: list[tuple[str, str]], loss_on: LossOn, *, escape: bool
) -> None:
    chat, tokenizer = made(name, kind)
    conversation = talk(turns)
    texts = [text for pair in turns for text in pair]
    held = [text for text in texts if chat.special_pattern.search(text)]
    try:
        rendered = render_conversation(chat, conversation, loss_on=loss_on, escape=escape)
        (tokenized,) = tokenize(TextEncoder(tokenizer), [rendered])
    except SpecialTokenError:
        assert held, "a row is refused for a special token that it does not hold"
        assert not escape, "every one of these tokenizers can write every name as text"
        return
    except RowError:
        # Qwen's template takes text before </think> for reasoning, and trims what is around it.
        assert name == "qwen3" and any("think>" in text for text in texts)
        return
    assert not held or escape
    batch = label([0], [tokenized])
    contract = Contract(chat=chat, loss_on=loss_on, tokenizer=tokenizer, vocabulary=len(tokenizer))
    broken = ContractCheck(contract).check(batch)
    if broken.keys() - {"unknown_token"}:
        # What a sentencepiece tokenizer writes for a space cannot be told from one.
        assert kind in {"sentencepiece", "metaspace"} and any("▁" in t for t in texts), broken
        return
    shown = [turns[-1][1]] if loss_on == "completion" else [answer for _, answer in turns]
    spans = _spans(batch.mask.tolist())
    assert len(spans) == len(shown)
    for (first, after), answer in zip(spans, shown, strict=True):
        ids = batch.input_ids.values[first:after].tolist()
        read = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        shown_as = {answer, answer.strip(), answer.lstrip("\n")}
        if name == "qwen3":  # which takes a thinking block out of the answer
            shown_as.add(answer.rpartition("</think>")[2].lstrip("\n"))
        wanted = [text + chat.ending for text in shown_as]
        if kind == "nfc":
            read, wanted = nfc(read), [nfc(text) for text in wanted]
        if "unknown_token" not in broken:
            said = read.rpartition("</think>\n\n")[2] if rendered.reasoned else read
            assert said.lstrip() in [text.lstrip() for text in wanted]
        # No token of the answer but its last is a special one: escaped names are text.
        assert not any(i in SPECIAL_IDS(tokenizer) for i in ids[:-1])
    decoder = contract.decoder
    if "unknown_token" not in broken and not any("▁" in text for text in texts):
        prompt = decoder.texts([batch.prompt_ids.row(0)])[0]
        assert not decoder.differ(prompt, batch.prompts[0])
    question = Conversation(messages=conversation.messages[:-1])
    if loss_on == "completion" and not rendered.reasoned:
        asked = question_token_ids(tokenizer, chat, question, escape=escape)
        assert asked == batch.prompt_ids.row(0)


def SPECIAL_IDS(tokenizer: Any) -> set[int]:  # noqa: N802 - a constant of a tokenizer
    return set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _spans(mask: list[bool]) -> list[tuple[int, int]]:
    edges = [
        i for i, (a, b) in enumerate(zip([False, *mask], [*mask, False], strict=True)) if a != b
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(KINDS), TEXT, TEXT)
def test_the_supervised_text_is_the_answer(
    name: str, kind: str, question: str, answer: str
) -> None:
    check(name, kind, [(question, answer)], "completion", escape=False)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["chatml", "llama3", "mistral", "qwen3"]),
    st.sampled_from(KINDS),
    st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=3),
)
def test_every_supervised_text_of_a_long_conversation_is_its_answer(
    name: str, kind: str, turns: list[tuple[str, str]]
) -> None:
    check(name, kind, turns, "assistant_turns", escape=False)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(KINDS), HOSTILE, HOSTILE)
def test_special_tokens_in_the_data_are_escaped_or_refused(
    name: str, kind: str, question: str, answer: str
) -> None:
    check(name, kind, [(question, answer)], "completion", escape=False)
    check(name, kind, [(question, answer)], "completion", escape=True)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["chatml", "llama3"]),
    st.sampled_from(KINDS),
    st.lists(st.tuples(HOSTILE, HOSTILE), min_size=2, max_size=3),
)
def test_special_tokens_in_earlier_answers_are_escaped(
    name: str, kind: str, turns: list[tuple[str, str]]
) -> None:
    check(name, kind, turns, "assistant_turns", escape=True)
