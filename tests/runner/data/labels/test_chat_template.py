from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_template import (
    ChatTemplate,
    LossOn,
    probe_chat_template,
    resolve_chat_template,
)
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.labels.labelled_rows import LabelledRows
from runner.data.labels.rendering import RenderedConversation, render_conversation, render_question
from runner.data.labels.text_encoder import TextEncoder
from runner.data.labels.tokenization import label, shown_tokens, supervise_all, tokenize, truncate
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Template
from tests.runner.tiny_data import TEMPLATES, make_tokenizer

TURN = [{"role": "user", "content": "Question?"}, {"role": "assistant", "content": "Answer."}]
KINDS = ("bytes", "trimmed", "nfc", "sentencepiece", "metaspace")
HERE = Path()


def rendered_of(
    chat: ChatTemplate, messages: list[dict[str, str]], loss_on: LossOn = "completion"
) -> RenderedConversation:
    return render_conversation(chat, Conversation(messages=tuple(messages)), loss_on=loss_on)


def label_of(
    tokenizer: object, messages: list[dict[str, str]], loss_on: LossOn = "completion"
) -> LabelledRows:
    """One conversation all the way to labels, through the contract."""
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    tokenized = tokenize(TextEncoder(tokenizer), [rendered_of(chat, messages, loss_on)])
    if loss_on == "all":
        tokenized = [supervise_all(TextEncoder(tokenizer), t) for t in tokenized]
    batch = label([0], tokenized)
    contract = Contract(chat=chat, loss_on=loss_on, tokenizer=tokenizer, vocabulary=len(tokenizer))
    broken = ContractCheck(contract).check(batch)
    broken.pop("unknown_token", None)  # sentencepiece's own tokens for bytes are few here
    assert broken == {}
    return batch


def supervised_text(tokenizer: object, batch: LabelledRows) -> str:
    ids = batch.labels[batch.mask].tolist()
    return tokenizer.decode(ids, skip_special_tokens=False)


# What a template is found to do


def test_the_stop_token_is_the_templates_and_not_the_tokenizers() -> None:
    """axolotl#3754: generation has to stop where training stops."""
    chat = probe_chat_template(TEMPLATES["chatml"], make_tokenizer("chatml"))
    tokenizer = make_tokenizer("chatml")
    assert tokenizer.eos_token == "</s>"
    assert (chat.stop_token, chat.ending, chat.lead) == ("<|im_end|>", "<|im_end|>", "")
    assert chat.stop_token_ids == (
        tokenizer.convert_tokens_to_ids("<|im_end|>"),
        tokenizer.eos_token_id,
    )


def test_white_space_that_a_template_adds_belongs_to_what_is_generated() -> None:
    mistral = probe_chat_template(TEMPLATES["mistral"], make_tokenizer("mistral"))
    assert (mistral.lead, mistral.ending, mistral.stop_token_ids) == (" ", "</s>", (2,))
    llama2 = probe_chat_template(TEMPLATES["llama2"], make_tokenizer("llama2"))
    assert (llama2.lead, llama2.ending) == (" ", " </s>")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (TEMPLATES["chatml"].replace("<|im_end|>", "<END>"), "no special token of this tokenizer"),
        ("{% for m in messages %}{{ m['content'] }}", "template.chat raised TemplateSyntaxError"),
        ("{{ raise_exception('only pairs') }}", "template.chat raised TemplateError: only pairs"),
        ("{{ messages[0]['content'] }}</s>", "never renders the assistant's message"),
        ("{{ messages[-1]['content'] }}</s>", "generation prompt is not how the training text"),
        ("<s>hello", "never renders the user's message"),
        (TEMPLATES["mistral"].replace("+ eos", "+ ' END ' + eos"), "before the stop token"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_refused(template: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        probe_chat_template(template, make_tokenizer(None))


def test_a_generation_prompt_that_is_no_prefix_is_refused() -> None:
    """trl#4147: a reasoning block that only generation opens."""
    template = TEMPLATES["chatml"].replace("assistant\n' }}", "assistant\n<think>\n' }}")
    with pytest.raises(DataError, match=r"not how the training text begins \(trl#4147\)"):
        probe_chat_template(template, make_tokenizer(None))


def test_the_template_comes_from_where_the_recipe_says(tmp_path: Path) -> None:
    (tmp_path / "my.jinja").write_text(TEMPLATES["llama3"])
    tokenizer = make_tokenizer("mistral")
    for name, stop in (("tokenizer", "</s>"), ("chatml", "<|im_end|>"), ("my.jinja", "<|eot_id|>")):
        chat = resolve_chat_template(Template(chat=name), tokenizer, tmp_path)
        assert chat.stop_token == stop


def test_a_missing_template_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'none\.jinja' cannot be read .*No such file"):
        resolve_chat_template(Template(chat="none.jinja"), make_tokenizer(None), tmp_path)
    with pytest.raises(DataError, match="the tokenizer brings no chat template"):
        resolve_chat_template(Template(), make_tokenizer(None), tmp_path)


def test_a_dropped_system_message_is_an_error() -> None:
    conversation = [{"role": "system", "content": "Be brief."}, *TURN]
    with pytest.raises(RowError, match="system message, which the chat template does not render"):
        label_of(make_tokenizer("mistral"), conversation)
    label_of(make_tokenizer("chatml"), conversation)


def test_the_prompt_for_a_question_is_the_prompt_of_training() -> None:
    for name in TEMPLATES:
        tokenizer = make_tokenizer(name)
        chat = probe_chat_template(tokenizer.chat_template, tokenizer)
        rendered = rendered_of(chat, TURN)
        question = Conversation(messages=tuple(TURN[:1]))
        assert render_question(chat, question) == (rendered.prompt, ())


# Spans and tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_answer_and_its_stop_token_are_supervised_and_nothing_else(
    name: str, kind: str
) -> None:
    tokenizer = make_tokenizer(name, kind)
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    batch = label_of(tokenizer, TURN)
    assert batch.supervised == ((chat.lead + "Answer." + chat.ending,),)
    assert batch.answers == ("Answer.",)
    stop = chat.stop_token_id
    assert batch.labels[batch.mask][-1] == stop
    after = batch.labels[np_last(batch.mask) + 1 :]
    assert (after == -100).all()


def np_last(mask: object) -> int:
    return int(mask.nonzero()[0][-1])


@pytest.mark.parametrize(
    "answer",
    [
        "[/INST] is the marker",
        "Answer: Question: Answer:",
        "assistant\nuser\nQuestion?",
        "Question?",
        "",
        " ",
        "\n\n  \n",
        "\n    indented\n",
        "\u00a0no-break\u00a0",
        "e\u0301 and é",
        "🙂‍↔️ שלום",
        "\ufffd",
        "a\r\nb\tc\x00d",
    ],
)
@pytest.mark.parametrize("kind", ["bytes", "trimmed", "sentencepiece", "metaspace"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_markers_and_white_space_in_the_answer_are_the_answers_own(
    name: str, kind: str, answer: str
) -> None:
    """trl#598, #1183, unsloth#1290: no marker is searched for."""
    tokenizer = make_tokenizer(name, kind)
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    batch = label_of(tokenizer, [TURN[0], {"role": "assistant", "content": answer}])
    assert batch.answers[0].strip() == answer.strip()
    assert batch.supervised[0] == (chat.lead + batch.answers[0] + chat.ending,)


TEXT = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(" \n\t:[]/INST<|>aé🙂"),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(TEMPLATES)), st.sampled_from(KINDS), TEXT, TEXT)
def test_decoded_supervised_text_is_the_answer_for_any_text(
    name: str, kind: str, question: str, answer: str
) -> None:
    tokenizer = make_tokenizer(name, kind)
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    assume(not chat.special_pattern.search(question + "\0" + answer))
    # Sentencepiece's own marker for a space reads as a space: such text cannot be given back.
    assume(kind not in ("sentencepiece", "metaspace") or "▁" not in question + answer)
    conversation = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    batch = label_of(tokenizer, conversation)
    kept = batch.answers[0]
    assert kept == (answer if name in ("mistral", "chatml", "plain") else answer.strip())
    decoded = supervised_text(tokenizer, batch)
    wanted = chat.lead + kept + chat.ending
    if kind == "nfc":
        decoded, wanted = (
            tokenizer.backend_tokenizer.normalizer.normalize_str(t) for t in (decoded, wanted)
        )
    assert decoded.lstrip(" ") == wanted.lstrip(" ")


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["chatml", "llama3"]), st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)
)
def test_every_answer_of_a_long_conversation_is_supervised(
    name: str, turns: list[tuple[str, str]]
) -> None:
    tokenizer = make_tokenizer(name)
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    assume(not any(chat.special_pattern.search(q + "\0" + a) for q, a in turns))
    conversation = [
        {"role": role, "content": text}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    batch = label_of(tokenizer, conversation, "assistant_turns")
    shown = [a if name == "chatml" else a.strip() for _, a in turns]
    assert batch.supervised[0] == tuple(answer + chat.stop_token for answer in shown)
    last = label_of(tokenizer, conversation)
    assert last.supervised[0] == (shown[-1] + chat.stop_token,)


def test_loss_on_all_supervises_everything_but_the_first_token() -> None:
    tokenizer = make_tokenizer("mistral")
    batch = label_of(tokenizer, TURN, "all")
    assert batch.supervised == (("<s>[INST] Question? [/INST] Answer.</s>",),)
    assert batch.supervised_bytes.tolist() == [len("[INST] Question? [/INST] Answer.</s>")]
    assert batch.labels[0] == -100
    assert (batch.labels[1:] == batch.input_ids.values[1:]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss_on", ["completion", "assistant_turns", "all"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_kind_of_tokenizer_keeps_the_contract(name: str, loss_on: LossOn, kind: str) -> None:
    label_of(make_tokenizer(name, kind), TURN * 3, loss_on)


def test_an_empty_prompt_is_an_error() -> None:
    template = (
        "{% for m in messages %}{{ m['content'] }}"
        "{% if m['role'] != 'user' %}</s>{% endif %}{% endfor %}"
    )
    tokenizer = make_tokenizer(template)
    label_of(tokenizer, TURN)
    with pytest.raises(RowError, match="the generation prompt is empty"):
        label_of(tokenizer, [{"role": "user", "content": ""}, TURN[1]])


def test_a_token_that_reaches_over_the_prompts_end_is_cut() -> None:
    """Line feeds of the prompt and of the answer are one token here, and must not be."""
    tokenizer = make_tokenizer("chatml")
    assert len(tokenizer.encode("\n\n", add_special_tokens=False)) == 1
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    conversation = [TURN[0], {"role": "assistant", "content": "\n\n\nAnswer."}]
    rendered = rendered_of(chat, conversation)
    (tokenized,) = tokenize(TextEncoder(tokenizer), [rendered])
    assert tokenized.cut
    whole = tokenizer.encode(rendered.text, add_special_tokens=False)
    assert tokenized.input_ids != whole
    assert tokenized.input_ids[: len(tokenized.prompt_ids)] == tokenized.prompt_ids


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_falls_apart_by_itself_is_tokenized_whole(kind: str) -> None:
    for name in ("mistral", "chatml", "llama2", "plain"):
        tokenizer = make_tokenizer(name, kind)
        chat = probe_chat_template(tokenizer.chat_template, tokenizer)
        rendered = rendered_of(chat, TURN)
        (tokenized,) = tokenize(TextEncoder(tokenizer), [rendered])
        assert tokenized.input_ids == tokenizer.encode(rendered.text, add_special_tokens=False)


def test_a_prompt_that_is_tokenized_otherwise_alone_is_kept_as_it_is_when_answering() -> None:
    """GPT-2's pattern splits two line feeds before a letter, and not at a prompt's end."""
    tokenizer = make_tokenizer("llama3")
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    rendered = rendered_of(chat, TURN)
    (tokenized,) = tokenize(TextEncoder(tokenizer), [rendered])
    whole = tokenizer.encode(rendered.text, add_special_tokens=False)
    alone = tokenizer.encode(rendered.prompt, add_special_tokens=False)
    assert whole[: len(alone)] != alone
    assert tokenized.cut
    assert tokenized.input_ids[: len(alone)] == alone
    assert tokenized.input_ids[len(alone) :] == whole[len(alone) + 1 :]


def test_a_special_token_inside_the_data_is_an_error() -> None:
    for role, place in (("user", 0), ("assistant", 1)):
        conversation = [dict(message) for message in TURN]
        conversation[place]["content"] = "a </s> b"
        with pytest.raises(RowError, match=f"the {role}'s text holds '</s>'"):
            label_of(make_tokenizer("mistral"), conversation)


def test_a_template_that_changes_the_answer_is_an_error() -> None:
    template = TEMPLATES["mistral"].replace("m['content'] + eos", "m['content'].upper() + eos")
    tokenizer = make_tokenizer(template.replace("upper()", "replace('secret', '')"))
    label_of(tokenizer, TURN)
    with pytest.raises(RowError, match="the chat template changes the answer"):
        label_of(tokenizer, [TURN[0], {"role": "assistant", "content": "a secret b"}])


def test_a_template_that_renders_earlier_turns_differently_is_an_error_only_where_it_matters() -> (
    None
):
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + "
        "('!' if loop.index0 >= messages | length - 2 else '') + ' [/INST]' }}{% else %}"
        "{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer = make_tokenizer(template)
    label_of(tokenizer, TURN * 2)
    with pytest.raises(RowError, match="renders a turn differently when an answer follows"):
        label_of(tokenizer, TURN * 2, "assistant_turns")


def test_the_template_writes_the_only_beginning_of_sequence_token() -> None:
    """trl#3328, OpenRLHF#393: a tokenizer that adds one too must not."""
    from tokenizers import processors

    tokenizer = make_tokenizer("mistral")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    batch = label_of(tokenizer, TURN)
    assert (batch.input_ids.values == tokenizer.bos_token_id).sum() == 1
    assert (batch.prompt_ids.values == tokenizer.bos_token_id).sum() == 1


# Truncation


def test_truncation_that_would_lose_the_stop_token_gives_nothing() -> None:
    """trl#3927: what is left of the answer would teach the model never to stop."""
    tokenizer = make_tokenizer("mistral")
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    rendered = rendered_of(chat, TURN)
    (tokenized,) = tokenize(TextEncoder(tokenizer), [rendered])
    assert truncate(TextEncoder(tokenizer), tokenized, len(tokenized.input_ids) - 1) is None
    assert truncate(TextEncoder(tokenizer), tokenized, len(tokenized.prompt_ids)) is None


def test_truncation_keeps_the_answers_that_fit_whole() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    rendered = rendered_of(chat, TURN * 3, "assistant_turns")
    (tokenized,) = tokenize(TextEncoder(tokenizer), [rendered])
    limit = tokenized.spans[2][1] - 1
    cut = truncate(TextEncoder(tokenizer), tokenized, limit)
    assert cut is not None
    assert cut.spans == tokenized.spans[:2]
    assert len(cut.input_ids) <= limit
    assert cut.input_ids == tokenized.input_ids[: len(cut.input_ids)]
    assert cut.rendered.prompt.endswith("<|im_start|>assistant\n")
    contract = Contract(
        chat=chat, loss_on="assistant_turns", tokenizer=tokenizer, vocabulary=len(tokenizer)
    )
    assert ContractCheck(contract).check(label([0], [cut])) == {}


def test_truncation_of_a_tail_after_the_stop_token_keeps_the_answer() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    rendered = rendered_of(chat, TURN)
    (tokenized,) = tokenize(TextEncoder(tokenizer), [rendered])
    cut = truncate(TextEncoder(tokenizer), tokenized, len(tokenized.input_ids) - 1)
    assert cut is not None
    assert cut.input_ids == tokenized.input_ids[:-1]


# Tokens for people


@pytest.mark.parametrize("kind", KINDS)
def test_shown_tokens_join_to_the_text(kind: str) -> None:
    tokenizer = make_tokenizer("chatml", kind)
    conversation = [TURN[0], {"role": "assistant", "content": "naïve 🙂 日本語"}]
    batch = label_of(tokenizer, conversation)
    shown = shown_tokens(tokenizer, batch, 0)
    assert len(shown) == batch.input_ids.lengths[0]
    text = (
        "<|im_start|>user\nQuestion?<|im_end|>\n<|im_start|>assistant\nnaïve 🙂 日本語<|im_end|>\n"
    )
    if kind == "sentencepiece":  # puts a space after special tokens
        text = text.replace("|>u", "|> u").replace("|>a", "|> a").replace("|>\n", "|> \n")
    assert "".join(token.text for token in shown) == text
    supervised = "".join(token.text for token in shown if token.supervised)
    assert supervised == "naïve 🙂 日本語<|im_end|>"
