"""The one owner of chat rendering: text of a conversation, its generation prompt, its answers.

Training, held-out loss, generation and preview all take their text from here. The supervised part
of a text is found by character offset: everything that a model has to write after the generation
prompt, up to and including the token that stops it. No token is ever searched for in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.data.formats import Conversation
from runner.data.row_template import TEMPLATE_ERRORS, RowError
from runner.data.special_tokens import any_of, special_tokens
from runner.digests import text_digest
from runner.errors import DataError
from runner.recipe import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LossOn = Literal["completion", "assistant_turns", "all"]

BUILT_IN = Path(__file__).parent / "chat_templates"
# Letters only: no template trims, escapes or splits them.
_QUESTION, _ANSWER, _SYSTEM = "ProofboxQuestion", "ProofboxAnswer", "ProofboxSystem"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A chat template and what was derived from it with a sentinel conversation.

    ``lead`` stands between the generation prompt and an answer and ``ending`` after the answer, up
    to and including the stop token; apart from the stop token both are white space. A model is
    trained on both and generates both. ``special_pattern`` matches any special token's text.
    """

    text: str
    digest: str
    lead: str
    ending: str
    stop_token: str
    stop_token_id: int
    stop_token_ids: tuple[int, ...]
    bos_token: str | None
    bos_token_id: int | None
    renders_system: bool
    renders_date: bool
    writes_bos: bool
    special_pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One assistant turn of a rendered text, in characters: ``text[start:end]`` is supervised.

    ``text`` is the answer as the template renders it, without ``lead`` and ``ending``. The text
    before ``start`` is the generation prompt of this turn.
    """

    start: int
    stop: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedConversation:
    """A conversation as text, with the answers that are supervised (the last one at least)."""

    text: str
    answers: tuple[Answer, ...]
    trimmed: bool

    @property
    def prompt(self) -> str:
        """The generation prompt of the last answer."""
        return self.text[: self.answers[-1].start]


def resolve_chat_template(
    block: Template, tokenizer: PreTrainedTokenizerBase, base_folder: Path
) -> ChatTemplate:
    """The recipe's chat template, read and probed.

    Raises:
        DataError: there is none, or it cannot be trained with.
    """
    return probe_chat_template(chat_template_text(block, tokenizer, base_folder), tokenizer)


def probe_chat_template(text: str, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    """What a chat template does with this tokenizer, seen on one sentinel conversation.

    Raises:
        DataError: it is broken, it raises, it does not render the answer, its generation prompt is
            not how the text begins, or no special token ends an answer.
    """
    prompt, whole = _render_probe(tokenizer, text)
    lead, tail = _around_answer(prompt, whole)
    special = special_tokens(tokenizer)
    pattern = any_of(special)
    found = pattern.search(tail)
    if found is None:
        raise DataError(_no_stop_token(tail, list(special)))
    _refuse_text("after the answer, before the stop token,", tail[: found.start()])
    _refuse_text("between the generation prompt and the answer", lead)
    stop = special[found.group()]
    ends = (stop, tokenizer.eos_token_id)
    return ChatTemplate(
        text=text,
        digest=text_digest(text),
        lead=lead,
        ending=tail[: found.end()],
        stop_token=found.group(),
        stop_token_id=stop,
        stop_token_ids=tuple(dict.fromkeys(token for token in ends if token is not None)),
        bos_token=tokenizer.bos_token,
        bos_token_id=tokenizer.bos_token_id,
        renders_system=_renders_system(tokenizer, text),
        renders_date="strftime_now" in text,
        writes_bos=bool(tokenizer.bos_token) and tokenizer.bos_token in prompt,
        special_pattern=pattern,
    )


def chat_template_text(
    block: Template, tokenizer: PreTrainedTokenizerBase, base_folder: Path
) -> str:
    """The Jinja source that ``template.chat`` means.

    Raises:
        DataError: the tokenizer has none, or there is no such file.
    """
    if block.chat == "tokenizer":
        if not tokenizer.chat_template:
            raise DataError(
                "template.chat: the tokenizer brings no chat template. Write `chat: chatml`, or "
                "give the path of a .jinja file."
            )
        return str(tokenizer.get_chat_template())
    if not block.chat.endswith(".jinja"):
        return (BUILT_IN / f"{block.chat}.jinja").read_text(encoding="utf-8")
    path = base_folder / block.chat
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(
            f"template.chat: {block.chat!r} cannot be read ({path}): {reason}"
        ) from None


def render_text(
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str,
    conversation: Conversation,
    *,
    generation_prompt: bool,
) -> str:
    """A conversation as text, exactly as ``apply_chat_template`` gives it to a server.

    Raises:
        RowError: the template raised.
    """
    try:
        return str(
            tokenizer.apply_chat_template(
                conversation,
                chat_template=chat_template,
                tokenize=False,
                add_generation_prompt=generation_prompt,
            )
        )
    except TEMPLATE_ERRORS as error:
        raise RowError(f"template.chat raised {type(error).__name__}: {error}") from None


def render_question(
    tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate, question: Conversation
) -> str:
    """The generation prompt for a conversation that ends with the user's turn.

    Raises:
        RowError: the template raised, or a message would be read as a special token.
    """
    _check_messages(chat, question)
    return render_text(tokenizer, chat.text, question, generation_prompt=True)


def render_conversation(
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatTemplate,
    conversation: Conversation,
    *,
    loss_on: LossOn,
) -> RenderedConversation:
    """Render a conversation that ends with the assistant's turn, and find its answers.

    Args:
        tokenizer: Renders, and knows the special tokens.
        chat: The resolved template.
        conversation: The messages.
        loss_on: ``assistant_turns`` finds every answer; else only the last is looked for.

    Raises:
        RowError: the template raised, dropped or changed something, or its generation prompt is
            not how the text begins.
    """
    _check_messages(chat, conversation)
    text = render_text(tokenizer, chat.text, conversation, generation_prompt=False)
    answers = []
    for index in _supervised_turns(conversation, loss_on):
        prompt = render_text(tokenizer, chat.text, conversation[:index], generation_prompt=True)
        if not prompt:
            raise RowError("the generation prompt is empty, so there is nothing to answer")
        if not text.startswith(prompt):
            raise RowError(
                "the generation prompt is not how the training text begins: the chat template "
                "renders a turn differently when an answer follows"
            )
        answers.append(_find_answer(chat, text, len(prompt), conversation[index]["content"]))
    given = conversation[-1]["content"]
    return RenderedConversation(
        text=text, answers=tuple(answers), trimmed=answers[-1].text != given
    )


def _supervised_turns(conversation: Conversation, loss_on: LossOn) -> list[int]:
    if loss_on != "assistant_turns":
        return [len(conversation) - 1]
    return [i for i, message in enumerate(conversation) if message["role"] == "assistant"]


def _find_answer(chat: ChatTemplate, text: str, start: int, content: str) -> Answer:
    """The answer that begins at ``start``: as it is, or with its outer white space trimmed."""
    first = start + len(chat.lead)
    variants = (content, content.strip(), content.lstrip(), content.rstrip())
    for shown in dict.fromkeys(variants):
        if text.startswith(chat.lead, start) and text.startswith(shown + chat.ending, first):
            end = first + len(shown) + len(chat.ending)
            return Answer(start=start, stop=end - len(chat.stop_token), end=end, text=shown)
    raise RowError(
        "the chat template changes the answer, or does not end it with "
        f"{chat.stop_token!r}: after the generation prompt it writes "
        f"{text[start : start + 60]!r}"
    )


def _check_messages(chat: ChatTemplate, conversation: Conversation) -> None:
    for message in conversation:
        found = chat.special_pattern.search(message["content"])
        if found:
            raise RowError(
                f"the {message['role']}'s text holds {found.group()!r}, which the tokenizer would "
                "read as a special token"
            )
        if message["role"] == "system" and not chat.renders_system:
            raise RowError("has a system message, which the chat template does not render")


# Probing a template


def _render_probe(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, str]:
    """Generation prompt and whole text of one question and one answer."""
    question = [{"role": "user", "content": _QUESTION}]
    answered = [*question, {"role": "assistant", "content": _ANSWER}]
    try:
        prompt = render_text(tokenizer, template, question, generation_prompt=True)
        whole = render_text(tokenizer, template, answered, generation_prompt=False)
    except RowError as error:
        raise DataError(f"{error} (on a conversation of one question and one answer)") from None
    if _QUESTION not in prompt:
        raise DataError(f"template.chat never renders the user's message: it gives {prompt!r}")
    if _ANSWER not in whole:
        raise DataError(f"template.chat never renders the assistant's message: it gives {whole!r}")
    if not whole.startswith(prompt):
        raise DataError(
            "template.chat: the generation prompt is not how the training text begins (trl#4147). "
            f"A model would be asked with {prompt!r} and trained on {whole!r}"
        )
    return prompt, whole


def _around_answer(prompt: str, whole: str) -> tuple[str, str]:
    lead, _, tail = whole[len(prompt) :].partition(_ANSWER)
    return lead, tail


def _refuse_text(where: str, text: str) -> None:
    if text.strip():
        raise DataError(
            f"template.chat writes {text!r} {where}, so every answer that the model generates "
            "would hold it too. Give a .jinja file whose generation prompt ends where the answer "
            "begins and whose stop token follows the answer."
        )


def _no_stop_token(tail: str, special: Sequence[str]) -> str:
    shown = ", ".join(special) or "none"
    return (
        f"template.chat ends an answer with {tail!r}, which holds no special token of "
        f"this tokenizer, so a model could not learn to stop. Its special tokens: {shown}"
    )


def _renders_system(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION}]
    try:
        return _SYSTEM in render_text(tokenizer, template, messages, generation_prompt=True)
    except RowError:
        return False
