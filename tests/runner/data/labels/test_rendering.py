"""Reasoning, tool calls, untrained turns, plain text, escaped names, the template's own marks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_template import (
    ChatTemplate,
    LossOn,
    chat_template_text,
    probe_chat_template,
)
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.labels.labelled_rows import LabelledRows
from runner.data.labels.rendering import render_conversation, render_question
from runner.data.labels.special_tokens import SpecialTokenError, mask_special_tokens, special_tokens
from runner.data.labels.text_encoder import TextEncoder
from runner.data.labels.tokenization import label, question_token_ids, supervise_all, tokenize
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Template
from tests.runner.data.labels.trl_templates import CALLING, TOOLS, template_text, tokenizer_for
from tests.runner.tiny_data import TEMPLATES, make_tokenizer

ASK = {"role": "user", "content": "Question?"}
ANSWER = {"role": "assistant", "content": "Answer."}
REASONED = {**ANSWER, "reasoning_content": "First\nthis."}


def talk(*messages: dict[str, Any]) -> Conversation:
    return Conversation(messages=messages)


def probe(name: str, thinking: bool | None = None) -> tuple[ChatTemplate, Any]:
    tokenizer = tokenizer_for(name)
    return probe_chat_template(template_text(name), tokenizer, thinking), tokenizer


def labelled(
    chat: ChatTemplate,
    tokenizer: Any,
    conversation: Conversation,
    loss_on: LossOn = "completion",
    *,
    escape: bool = False,
) -> tuple[LabelledRows, dict[str, list[int]]]:
    rendered = render_conversation(chat, conversation, loss_on=loss_on, escape=escape)
    tokenized = tokenize(TextEncoder(tokenizer), [rendered])
    if loss_on == "all":
        tokenized = [supervise_all(TextEncoder(tokenizer), t) for t in tokenized]
    batch = label([0], tokenized)
    contract = Contract(chat=chat, loss_on=loss_on, tokenizer=tokenizer, vocabulary=len(tokenizer))
    return batch, ContractCheck(contract).check(batch)


# Reasoning


def test_without_reasoning_the_model_need_not_write_an_empty_thinking_block() -> None:
    chat, tokenizer = probe("qwen3")
    batch, broken = labelled(chat, tokenizer, talk(ASK, ANSWER))
    assert (chat.thinking, chat.answer_marker, broken) == (False, "</think>", {})
    assert batch.supervised == (("Answer.<|im_end|>",),)
    assert batch.prompts[0].endswith("assistant\n<think>\n\n</think>\n\n")


def test_reasoning_is_supervised_and_asked_for_by_the_row_s_own_prompt() -> None:
    chat, tokenizer = probe("qwen3")
    batch, broken = labelled(chat, tokenizer, talk(ASK, REASONED))
    assert broken == {}
    assert batch.supervised == (("<think>\nFirst\nthis.\n</think>\n\nAnswer.<|im_end|>",),)
    assert batch.answers == ("Answer.",)
    assert batch.prompts[0].endswith("<|im_start|>assistant\n")


def test_a_thinking_block_in_the_content_is_reasoning_where_the_template_reads_it_so() -> None:
    chat, tokenizer = probe("qwen3")
    inside = {**ANSWER, "content": "<think>\nFirst\nthis.\n</think>\n\nAnswer."}
    assert labelled(chat, tokenizer, talk(ASK, inside))[0].answers == ("Answer.",)
    empty = {**ANSWER, "content": "<think>\n\n</think>\n\nAnswer."}
    batch, _ = labelled(chat, tokenizer, talk(ASK, empty))
    assert batch.supervised == (("Answer.<|im_end|>",),)
    other, tokenizer = probe("qwen3_8")
    assert not other.parses_blocks
    with pytest.raises(RowError, match="does not read as reasoning; give it as"):
        labelled(other, tokenizer, talk(ASK, inside))


def test_the_recipe_s_choice_decides_and_what_it_excludes_is_refused() -> None:
    on, tokenizer = probe("qwen3", True)
    batch, broken = labelled(on, tokenizer, talk(ASK, ANSWER))
    assert batch.supervised == (("<think>\n\n</think>\n\nAnswer.<|im_end|>",),)
    assert (batch.answers, broken, on.thinking) == (("Answer.",), {}, True)
    off, tokenizer = probe("qwen3", False)
    with pytest.raises(RowError, match=r"with reasoning: .* generation prompt is not how"):
        labelled(off, tokenizer, talk(ASK, REASONED))
    nemotron, tokenizer = probe("nemotron_3_nano", True)
    labelled(nemotron, tokenizer, talk(ASK, REASONED))
    with pytest.raises(RowError, match=r"without reasoning: .* generation prompt is not how"):
        labelled(nemotron, tokenizer, talk(ASK, ANSWER))


def test_a_choice_that_the_template_does_not_read_is_an_error() -> None:
    with pytest.raises(DataError, match=r"template.thinking is true, but .* does not read"):
        probe_chat_template(TEMPLATES["chatml"], make_tokenizer("chatml"), True)


def test_reasoning_of_earlier_turns_is_dropped_where_the_template_drops_it() -> None:
    chat, tokenizer = probe("qwen3")
    conversation = talk(ASK, REASONED, ASK, REASONED)
    batch, broken = labelled(chat, tokenizer, conversation, "assistant_turns")
    assert broken == {}
    assert batch.supervised[0] == (
        "Answer.<|im_end|>",
        "<think>\nFirst\nthis.\n</think>\n\nAnswer.<|im_end|>",
    )
    keeps, tokenizer = probe("qwen3_8")
    batch, broken = labelled(keeps, tokenizer, conversation, "assistant_turns")
    assert broken == {}
    assert [text.count("First") for text in batch.supervised[0]] == [1, 1]


def test_reasoning_that_a_template_does_not_render_is_not_dropped_in_silence() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    with pytest.raises(RowError, match="has reasoning, which the chat template does not render"):
        labelled(chat, tokenizer, talk(ASK, REASONED))


def test_a_channel_s_name_before_the_answer_is_written_by_the_model() -> None:
    chat, tokenizer = probe("gptoss")
    final = "<|channel|>final<|message|>"
    batch, broken = labelled(chat, tokenizer, talk(ASK, ANSWER))
    assert broken == {}
    assert batch.supervised == ((f"{final}Answer.<|return|>",),)
    assert (chat.lead, chat.answer_marker) == (final, final)
    with pytest.raises(RowError, match=r"does not end it with '<\|return\|>'"):
        labelled(chat, tokenizer, talk(ASK, ANSWER, ASK, ANSWER), "assistant_turns")


def test_a_sample_is_asked_with_the_prompt_of_training() -> None:
    for name in ("qwen3", "gptoss", "nemotron_3_nano", "qwen2_5"):
        chat, tokenizer = probe(name)
        batch, _ = labelled(chat, tokenizer, talk(ASK, ANSWER))
        asked = question_token_ids(tokenizer, chat, talk(ASK))
        assert asked == batch.prompt_ids.row(0)
        again = probe_chat_template(chat.text, tokenizer, chat.thinking)
        assert question_token_ids(tokenizer, again, talk(ASK)) == asked


def test_a_sample_of_data_with_reasoning_is_asked_as_its_rows_are() -> None:
    for name in ("qwen3", "qwen3_5_think", "gptoss", "nemotron_3_nano"):
        chat, tokenizer = probe(name)
        batch, _ = labelled(chat, tokenizer, talk(ASK, REASONED))
        again = probe_chat_template(chat.text, tokenizer, chat.thinking_for(reasoned=True))
        assert question_token_ids(tokenizer, again, talk(ASK)) == batch.prompt_ids.row(0)


# Tool calls


def test_a_tool_call_is_supervised_as_the_template_writes_it() -> None:
    chat, tokenizer = probe("qwen3")
    batch, broken = labelled(chat, tokenizer, CALLING[1], "assistant_turns")
    assert broken == {}
    call, told = batch.supervised[0]
    assert call == (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}\n'
        "</tool_call><|im_end|>"
    )
    assert told.endswith("Sunny.<|im_end|>")


def test_a_call_ends_with_its_own_stop_token_on_which_generation_stops() -> None:
    chat, tokenizer = probe("gptoss")
    batch, broken = labelled(chat, tokenizer, CALLING[0])
    assert broken == {}
    assert batch.supervised[0][0].endswith("<|call|>")
    assert tokenizer.convert_tokens_to_ids("<|call|>") in chat.stop_token_ids


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        (CALLING[1], "has tools, which"),
        (Conversation(messages=CALLING[1].messages), "has tool calls, which"),
        (talk(ASK, {"role": "tool", "content": "21"}, ANSWER), "has a tool's message, which"),
    ],
)
def test_what_a_template_does_not_render_of_tools_is_refused(
    conversation: Conversation, message: str
) -> None:
    template = (
        "{% for m in messages %}{% if m.role != 'tool' %}{{ m.role + '\n' + m.content + "
        "'<|im_end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
        "{{ 'assistant\n' }}{% endif %}"
    )
    if "tool calls" in message:
        template = template.replace("{% if m.role != 'tool' %}", "{% if true %}")
    tokenizer = make_tokenizer(template)
    chat = probe_chat_template(template, tokenizer)
    with pytest.raises(RowError, match=message):
        labelled(chat, tokenizer, conversation, "assistant_turns")


def test_a_call_of_which_a_value_is_lost_is_refused() -> None:
    lossy = template_text("qwen2_5").replace("arguments | tojson", "arguments.city | tojson")
    tokenizer = tokenizer_for("qwen2_5")
    chat = probe_chat_template(lossy, tokenizer)
    with pytest.raises(RowError, match="has tool calls, which the chat template does not render"):
        labelled(chat, tokenizer, CALLING[0])


# Turns that are not trained on


def test_an_untrained_turn_is_not_supervised() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    wrong = {**ANSWER, "content": "Wrong.", "train": False}
    batch, broken = labelled(chat, tokenizer, talk(ASK, wrong, ASK, ANSWER), "assistant_turns")
    assert (batch.supervised, broken) == ((("Answer.<|im_end|>",),), {})
    batch, broken = labelled(chat, tokenizer, talk(ASK, ANSWER, ASK, wrong), "assistant_turns")
    assert (batch.supervised, broken) == ((("Answer.<|im_end|>",),), {})
    assert batch.answers == ("Answer.",)


def test_an_untrained_message_where_all_is_trained_on_is_refused() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    wrong = {**ANSWER, "train": False}
    for messages in ((ASK, wrong, ASK, ANSWER), ({**ASK, "train": False}, ANSWER)):
        with pytest.raises(RowError, match=r"^has a message with train: false, which loss_on: all"):
            labelled(chat, tokenizer, talk(*messages), "all")
    fine = talk({**ASK, "train": True}, ANSWER)
    assert labelled(chat, tokenizer, fine, "all")[1] == {}


def test_a_row_whose_last_turn_is_not_trained_on_teaches_nothing() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    conversation = talk(ASK, {**ANSWER, "train": False})
    for loss_on in ("completion", "assistant_turns"):
        batch, broken = labelled(chat, tokenizer, conversation, loss_on)
        assert broken == {"no_supervised_token": [0]}
        assert not batch.mask.any()


# Plain text


@pytest.mark.parametrize("kind", ["bytes", "nfc", "sentencepiece", "metaspace"])
@pytest.mark.parametrize("text", ["naïve text", "日本語 first", "🙂", " a"])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_plain_text_is_supervised_whole(kind: str, text: str, adds_bos: bool) -> None:
    from tokenizers import processors

    tokenizer = make_tokenizer(None, kind)
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    block = Template.model_construct(chat="none", thinking=None)
    chat = probe_chat_template(chat_template_text(block, tokenizer, Path()), tokenizer)
    conversation = talk({"role": "assistant", "content": text})
    batch, broken = labelled(chat, tokenizer, conversation, "all")
    broken.pop("unknown_token", None)
    assert broken == {}
    assert batch.supervised == (("<s>" * adds_bos + text + "</s>",),)
    assert batch.input_ids.row(0)[-1] == tokenizer.eos_token_id
    assert (batch.input_ids.row(0)[0] == tokenizer.bos_token_id) == adds_bos
    assert batch.prompt_ids.row(0) == [tokenizer.bos_token_id] * adds_bos
    assert (batch.labels[1:] == batch.input_ids.values[1:]).all()
    if adds_bos:
        assert batch.supervised_bytes.tolist() == [len((text + "</s>").encode())]


def test_an_empty_text_teaches_nothing() -> None:
    tokenizer = make_tokenizer(None)
    block = Template.model_construct(chat="none", thinking=None)
    chat = probe_chat_template(chat_template_text(block, tokenizer, Path()), tokenizer)
    _, broken = labelled(chat, tokenizer, talk({"role": "assistant", "content": ""}), "all")
    assert broken == {"no_supervised_token": [0]}


# Special tokens' names in the data


@pytest.mark.parametrize("kind", ["bytes", "trimmed", "nfc", "sentencepiece", "metaspace"])
def test_an_escaped_name_stays_text_in_training_and_when_asking(kind: str) -> None:
    tokenizer = make_tokenizer("chatml", kind)
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    question = {**ASK, "content": "What is </s>?"}
    answer = {**ANSWER, "content": "<|im_end|> ends, </s> stops.</s>"}
    with pytest.raises(SpecialTokenError, match=r"the user's text holds '</s>'"):
        labelled(chat, tokenizer, talk(question, answer))
    batch, broken = labelled(chat, tokenizer, talk(question, answer), escape=True)
    assert broken == {}
    ids = batch.input_ids.row(0)
    assert tokenizer.eos_token_id not in ids
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert batch.answers == (answer["content"],)
    assert batch.questions == (question["content"],)
    asked = question_token_ids(tokenizer, chat, talk(question), escape=True)
    assert asked == batch.prompt_ids.row(0)
    with pytest.raises(SpecialTokenError):
        render_question(chat, talk(question))


def test_question_and_context_are_the_datas_up_to_the_last_trained_answer() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    system = {"role": "system", "content": 'Say "</s>".'}
    first, second = ({**ASK, "content": f"{n}: </s>?"} for n in (1, 2))
    untrained = {**ANSWER, "train": False}
    conversation = talk(system, first, ANSWER, second, untrained)
    batch, _ = labelled(chat, tokenizer, conversation, "assistant_turns", escape=True)
    assert batch.questions == ("1: </s>?",)
    assert batch.contexts == (talk(system, first, ANSWER).context,) != ("",)
    assert batch.take([0, 0]).contexts == batch.contexts * 2
    batch, _ = labelled(chat, tokenizer, talk(first, ANSWER), escape=True)
    assert batch.contexts == ("",)


def test_names_in_tool_arguments_and_reasoning_are_data_too() -> None:
    chat, tokenizer = probe("qwen3")
    call = {
        **CALLING[0].messages[1],
        "tool_calls": [
            {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "</s>"}}}
        ],
    }
    conversation = Conversation(messages=(ASK, call), tools=TOOLS)
    with pytest.raises(SpecialTokenError, match=r"the assistant's tool_calls holds '</s>'"):
        labelled(chat, tokenizer, conversation)
    batch, broken = labelled(chat, tokenizer, conversation, escape=True)
    assert broken == {}
    assert '"city": "</s>"' in batch.supervised[0][0]
    assert tokenizer.eos_token_id not in batch.input_ids.row(0)
    reasoned = talk(ASK, {**ANSWER, "reasoning_content": "No <|im_end|> yet."})
    batch, broken = labelled(chat, tokenizer, reasoned, escape=True)
    assert broken == {}
    assert "No <|im_end|> yet." in batch.supervised[0][0]


def test_a_private_use_character_of_the_data_is_not_mistaken_for_a_stand_in() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    answer = {**ANSWER, "content": "\ue000\ue001 and </s>\ue002"}
    batch, broken = labelled(chat, tokenizer, talk(ASK, answer), escape=True)
    assert (broken, batch.answers) == ({}, (answer["content"],))


def test_a_template_that_takes_a_name_apart_is_an_error() -> None:
    template = TEMPLATES["chatml"].replace("m['content']", "m['content'].replace('/', '|')")
    tokenizer = make_tokenizer(template)
    chat = probe_chat_template(template, tokenizer)
    question = {**ASK, "content": "What is </s>?"}
    with pytest.raises(SpecialTokenError, match="the chat template takes it apart"):
        labelled(chat, tokenizer, talk(question, ANSWER), escape=True)


ENCODINGS = {
    "json": "(m['content'] | tojson(ensure_ascii=true))",
    "url": "(m['content'] | urlencode)",
    "decimal": "(m['content'].encode('ascii', 'xmlcharrefreplace').decode())",
}


def encoding(way: str, role: str) -> tuple[ChatTemplate, Any]:
    """A template that encodes the texts of one role."""
    template = TEMPLATES["chatml"].replace(
        "m['content']", f"({ENCODINGS[way]} if m['role'] == '{role}' else m['content'])"
    )
    tokenizer = make_tokenizer(template)
    return probe_chat_template(template, tokenizer), tokenizer


@pytest.mark.parametrize("way", ENCODINGS)
def test_a_template_that_encodes_a_name_is_an_error(way: str) -> None:
    if way != "json":  # its quotes would be refused
        chat, tokenizer = encoding(way, "assistant")
        answer = {**ANSWER, "content": "It is </s>."}
        with pytest.raises(SpecialTokenError, match=r"^the assistant's text holds '</s>', .* enc"):
            labelled(chat, tokenizer, talk(ASK, answer), escape=True)
    chat, tokenizer = encoding(way, "user")
    question = {**ASK, "content": "What is </s>?"}
    message = r"^the user's text holds '</s>', which cannot be escaped: .* encodes it$"
    with pytest.raises(SpecialTokenError, match=message):
        labelled(chat, tokenizer, talk(question, ANSWER), escape=True)
    with pytest.raises(SpecialTokenError, match=message):
        question_token_ids(tokenizer, chat, talk(question), escape=True)


@pytest.mark.parametrize(
    "left",
    ["\ue000", "\\ue000", "\\UE000", "&#xe000;", "&#XE000;", "&#57344;", "%EE%80%80", "%ee%80%80"],
)
def test_what_is_left_of_a_stand_in_is_found_however_it_is_written(left: str) -> None:
    masked = mask_special_tokens(talk({**ASK, "content": "a </s>"}), re.compile("</s>"))
    assert list(masked.names) == ["\ue000"]
    with pytest.raises(SpecialTokenError, match=r"the chat template (encodes it|takes it apart)"):
        masked.restored(f"What is {left}/S>?")


def test_a_text_that_writes_a_stand_in_s_number_is_not_mistaken_for_one() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    answer = {**ANSWER, "content": "\\ue000, &#xE001; and %EE%80%82 are no </s>"}
    batch, broken = labelled(chat, tokenizer, talk(ASK, answer), escape=True)
    assert (broken, batch.answers) == ({}, (answer["content"],))


def test_a_name_that_the_template_does_not_render_is_restored_in_the_question() -> None:
    template = TEMPLATES["chatml"].replace("m['content']", "m['content'].replace('\ue000/s>', '')")
    tokenizer = make_tokenizer(template)
    chat = probe_chat_template(template, tokenizer)
    question = {**ASK, "content": "What is </s>?"}
    rendered = render_conversation(chat, talk(question, ANSWER), loss_on="completion", escape=True)
    assert (rendered.escaped, rendered.question) == ((), "What is </s>?")


def test_a_refusal_shows_the_name_and_no_stand_in() -> None:
    changing = TEMPLATES["chatml"].replace("m['content']", "m['content'].replace('end', 'END')")
    raising = (
        "{% if '/s>' in messages[0]['content'] %}{{ raise_exception(messages[0]['content']) }}"
    )
    for template, content in (
        (changing, "The </s> end"),
        (raising + "{% endif %}" + TEMPLATES["chatml"], "Fine"),
    ):
        tokenizer = make_tokenizer(template)
        chat = probe_chat_template(template, tokenizer)
        question = {**ASK, "content": "What is </s>?"}
        with pytest.raises(RowError) as raised:
            labelled(chat, tokenizer, talk(question, {**ANSWER, "content": content}), escape=True)
        assert "</s>" in str(raised.value)
        assert "\ue000" not in str(raised.value)
        assert "\\ue000" not in str(raised.value)


def test_an_ordinary_token_that_pads_is_ordinary_text() -> None:
    tokenizer = make_tokenizer("chatml")
    ordinary = special_tokens(tokenizer)
    assert "<pad>" in ordinary
    word = max(token for token in tokenizer.get_vocab() if token.isalpha())
    tokenizer.pad_token = word
    assert special_tokens(tokenizer) == ordinary
    tokenizer.unk_token = word  # what another name makes special stays so
    assert word in special_tokens(tokenizer)


def test_an_escaped_name_leaves_the_tokenizer_as_it_was() -> None:
    tokenizer = make_tokenizer("chatml")
    encoder = TextEncoder(tokenizer)
    assert tokenizer.eos_token_id not in encoder.piece("a </s>", ((2, 6),))
    assert tokenizer("</s>", add_special_tokens=False)["input_ids"] == [tokenizer.eos_token_id]
    never = replace_special(encoder)
    with pytest.raises(SpecialTokenError, match="text holds '</s>', which cannot be escaped"):
        never.piece("a </s>", ((2, 6),))
    assert not tokenizer.backend_tokenizer.encode_special_tokens


def replace_special(encoder: TextEncoder) -> TextEncoder:
    """An encoder to which every token is a special one."""
    changed = TextEncoder(encoder.tokenizer)
    changed.__dict__["is_special"] = np.ones(len(encoder.tokenizer), dtype=np.bool_)
    return changed


# The template's own marks

MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
UNMARKED_STOP = MARKED.replace("+ '<|im_end|>' }}{% endgeneration", "}}{% endgeneration").replace(
    "{% endgeneration %}{{ '", "{% endgeneration %}{{ '<|im_end|>"
)
MARKED_QUESTION = MARKED.replace("== 'assistant' %}{% gen", "!= 'system' %}{% gen")


@pytest.mark.parametrize("loss_on", ["completion", "assistant_turns"])
@pytest.mark.parametrize(
    ("template", "differs"), [(MARKED, False), (UNMARKED_STOP, True), (MARKED_QUESTION, True)]
)
def test_marks_that_differ_from_what_is_supervised_break_the_rule(
    template: str, differs: bool, loss_on: LossOn
) -> None:
    tokenizer = make_tokenizer(template)
    chat = probe_chat_template(template, tokenizer)
    assert chat.generation_marks
    conversation = talk(ASK, ANSWER, ASK, ANSWER)
    _, broken = labelled(chat, tokenizer, conversation, loss_on)
    if template is MARKED_QUESTION and loss_on == "completion":
        differs = False  # only the last answer is compared
    assert broken == ({"generation_marks": [0]} if differs else {})


def test_untrained_turns_may_be_marked() -> None:
    tokenizer = make_tokenizer(MARKED)
    chat = probe_chat_template(MARKED, tokenizer)
    conversation = talk(ASK, {**ANSWER, "train": False}, ASK, ANSWER)
    assert labelled(chat, tokenizer, conversation, "assistant_turns")[1] == {}


# Unknown tokens


def test_text_that_the_tokenizer_has_no_token_for_is_found() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "user", "assistant", "known"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' + m['content'] + "
        "'<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant ' }}{% endif %}"
    )
    chat = probe_chat_template(template, tokenizer)
    fine = talk({**ASK, "content": "known"}, {**ANSWER, "content": "known"})
    assert "unknown_token" not in labelled(chat, tokenizer, fine)[1]
    unknown = talk({**ASK, "content": "what"}, {**ANSWER, "content": "known"})
    assert labelled(chat, tokenizer, unknown)[1]["unknown_token"] == [0]
