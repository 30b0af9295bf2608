"""Rows rendered: the text of a conversation, its generation prompt, its answers.

Training, held-out loss, generation and preview all take their text from here. The supervised part
of a text is found by character offset: everything that a model has to write after the generation
prompt, up to and including the token that stops it. No text of the data is ever searched for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from runner.data.formats.conversation import Conversation, Message
from runner.data.labels.chat_template import ChatTemplate, LossOn
from runner.data.labels.generation_marks import marks_agree
from runner.data.labels.special_tokens import (
    MaskedConversation,
    Spans,
    SpecialTokenError,
    mask_special_tokens,
    special_token_in,
)
from runner.data.labels.thinking import AnswerStyle, split_reasoning, trimmed_variants
from runner.data.reading.row_template import RowError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One assistant turn of a rendered text, in characters: ``text[start:end]`` is supervised.

    ``stop`` is where its stop token begins. ``text`` is the answer as the template renders it,
    without reasoning and without what the template adds. The text before ``start`` is the
    generation prompt of this turn. ``given`` is the answer's text in the data, ``turn`` the place
    of its message.
    """

    start: int
    stop: int
    end: int
    text: str
    given: str
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedConversation:
    """A conversation as text, with its answers: the supervised ones, or the last one at least.

    ``conversation`` is the data's. ``supervised`` is false where no answer is trained on.
    ``escaped`` is where special tokens' names stand in the text as text. ``marks_differ``: the
    template's own marks are others.
    """

    conversation: Conversation
    text: str
    answers: tuple[Answer, ...]
    supervised: bool
    reasoned: bool
    escaped: Spans
    marks_differ: bool

    @property
    def prompt(self) -> str:
        """The generation prompt of the last answer."""
        return self.text[: self.answers[-1].start]

    @property
    def question(self) -> str:
        """What is asked, without the template."""
        return self._last.question

    @property
    def context(self) -> str:
        """What it is asked in: system message, tools, tool calls."""
        return self._last.context

    @property
    def _last(self) -> Conversation:
        """The conversation up to the last answer."""
        return self.conversation.before(self.answers[-1].turn + 1)

    @property
    def trimmed(self) -> bool:
        """Whether the template trimmed the last answer."""
        return self.answers[-1].text != self.answers[-1].given


def render_question(
    chat: ChatTemplate, question: Conversation, *, escape: bool = False
) -> tuple[str, Spans]:
    """The generation prompt for a conversation that ends with the user's turn, and escaped names.

    Raises:
        RowError: the template raised, or a message would be read as a special token.
    """
    masked = _masked(chat, question, escape=escape)
    _check_messages(chat, question)
    with _names_told(masked):
        prompt = chat.renderer.render(
            masked.conversation, generation_prompt=True, thinking=chat.thinking
        )
        return masked.restored(prompt)


def render_conversation(
    chat: ChatTemplate, conversation: Conversation, *, loss_on: LossOn, escape: bool = False
) -> RenderedConversation:
    """Render a conversation that ends with the assistant's turn, and find its answers.

    With ``assistant_turns`` the conversation ends with the last turn that is trained on: what
    follows it would be read by nothing.

    Args:
        chat: The resolved template.
        conversation: The messages.
        loss_on: ``assistant_turns`` finds every answer; else only the last is looked for.
        escape: Whether special tokens' names in the data are made text, or refused.

    Raises:
        SpecialTokenError: a text holds a special token's name.
        RowError: the template raised, dropped or changed something, or its generation prompt is
            not how the text begins.
    """
    masked = _masked(chat, conversation, escape=escape)
    _check_messages(chat, conversation)
    with _names_told(masked):
        return _rendered(chat, conversation, masked, loss_on)


def _rendered(
    chat: ChatTemplate, conversation: Conversation, masked: MaskedConversation, loss_on: LossOn
) -> RenderedConversation:
    turns = _turns(conversation, loss_on)
    shown = masked.conversation
    if turns and turns[-1] + 1 < len(shown.messages):
        shown = shown.before(turns[-1] + 1)
    style = _style(chat, shown.messages[-1])
    text = chat.renderer.render(shown, generation_prompt=False, thinking=style.thinking)
    whole, escaped = masked.restored(text)
    last = len(shown.messages) - 1
    rendering = _Rendering(chat=chat, style=style, conversation=shown, text=text)
    answers = [rendering.answer(turn, alone=loss_on == "all") for turn in turns or [last]]
    if masked.names:
        answers = [_restored(masked, answer) for answer in answers]
    return RenderedConversation(
        conversation=conversation,
        text=whole,
        answers=tuple(answers),
        supervised=bool(turns),
        reasoned=style is chat.reasoned,
        escaped=escaped,
        marks_differ=bool(turns) and loss_on != "all" and _marks_differ(rendering, answers, turns),
    )


@contextmanager
def _names_told(masked: MaskedConversation) -> Iterator[None]:
    """Show people the data's own text where a row is refused, without stand-ins."""
    try:
        yield
    except RowError as error:
        raise type(error)(masked.told(str(error))) from None


def _restored(masked: MaskedConversation, answer: Answer) -> Answer:
    return replace(
        answer,
        text=masked.plain(answer.text),
        given=masked.plain(answer.given),
    )


def _masked(chat: ChatTemplate, conversation: Conversation, *, escape: bool) -> MaskedConversation:
    held = special_token_in(conversation, chat.special_pattern)
    if held is None:
        return MaskedConversation(conversation=conversation, names={})
    if not escape:
        raise SpecialTokenError(held)
    return mask_special_tokens(conversation, chat.special_pattern)


def _check_messages(chat: ChatTemplate, conversation: Conversation) -> None:
    """Refuse what the template would drop without a word."""
    if conversation.tools and not chat.renders_tools:
        raise RowError("has tools, which the chat template does not render")
    for message in conversation.messages:
        if message["role"] == "system" and not chat.renders_system:
            raise RowError("has a system message, which the chat template does not render")
        if message["role"] == "tool" and not chat.renders_tool_turns:
            raise RowError("has a tool's message, which the chat template does not render")


def _turns(conversation: Conversation, loss_on: LossOn) -> list[int]:
    """The messages that are trained on."""
    messages = conversation.messages
    if loss_on == "assistant_turns":
        assistants = (i for i, message in enumerate(messages) if message["role"] == "assistant")
        return [i for i in assistants if messages[i].get("train") is not False]
    if loss_on == "all" and any(message.get("train") is False for message in messages):
        raise RowError("has a message with train: false, which loss_on: all would train on")
    last = len(messages) - 1
    return [last] if loss_on == "all" or messages[last].get("train") is not False else []


def _style(chat: ChatTemplate, message: Message) -> AnswerStyle:
    """How a conversation that ends with this answer is rendered."""
    reasoning, content = split_reasoning(message, parses_blocks=chat.parses_blocks)
    found = chat.plain if reasoning is None else chat.reasoned
    if not isinstance(found, AnswerStyle):
        raise RowError(
            found.text
            if reasoning is not None and found.rule == "unusable_row"
            else f"an answer {'without' if reasoning is None else 'with'} reasoning: {found.text}"
        )
    if isinstance(chat.reasoned, AnswerStyle) and content.lstrip().startswith("<think>"):
        raise RowError(
            "has an answer that begins with <think>, which the chat template does not read as "
            "reasoning; give it as `reasoning_content`"
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendering:
    """A rendered conversation whose answers are being found."""

    chat: ChatTemplate
    style: AnswerStyle
    conversation: Conversation
    text: str

    def answer(self, turn: int, *, alone: bool) -> Answer:
        """The answer of message ``turn``; ``alone`` says that nothing needs to be asked."""
        message = self.conversation.messages[turn]
        last = turn + 1 == len(self.conversation.messages)
        start = self._start(turn, last=last, alone=alone)
        reasoning, content = split_reasoning(message, parses_blocks=self.chat.parses_blocks)
        if message.get("tool_calls"):
            stop, end = self._calls(start, message, (reasoning or "", content))
            said = _said(self.chat, self.text[start:stop])
            return Answer(start=start, stop=stop, end=end, text=said, given=said, turn=turn)
        leads = [*self.style.leads(reasoning)]
        if not last:
            leads += [self.style.earlier, self.chat.lead, ""]
        shown, end = self._plain(start, leads, content)
        stop = end - len(self.chat.stop_token)
        return Answer(start=start, stop=stop, end=end, text=shown, given=content, turn=turn)

    def _start(self, turn: int, *, last: bool, alone: bool) -> int:
        """Where the generation prompt of a turn ends."""
        prompt = self.chat.renderer.render(
            self.conversation.before(turn), generation_prompt=True, thinking=self.style.thinking
        )
        if not prompt and not (alone and turn == 0):
            raise RowError("the generation prompt is empty, so there is nothing to answer")
        if self.text.startswith(prompt):
            return len(prompt)
        # An earlier turn has no thinking block where the template drops it.
        start = len(prompt) - len(self.style.primer)
        dropped = not last and self.chat.opens_thinking(prompt[start:])
        if not dropped or not self.text.startswith(prompt[:start]):
            raise RowError(
                "the generation prompt is not how the training text begins: the chat template "
                "renders a turn differently when an answer follows"
            )
        return start

    def header(self, turn: int, start: int) -> int:
        """Where the generation prompt's own text begins, which goes on to ``start``."""
        asked = self.chat.renderer.render(
            self.conversation.before(turn), generation_prompt=False, thinking=self.style.thinking
        )
        return len(asked) if self.text[:start].startswith(asked) else start

    def _plain(self, start: int, leads: Iterable[str], content: str) -> tuple[str, int]:
        """The answer that begins at ``start``, as it is or trimmed, and where its stop ends."""
        text, ending = self.text, self.chat.ending
        for lead in dict.fromkeys(leads):
            if not text.startswith(lead, start):
                continue
            first = start + len(lead)
            for shown in trimmed_variants(content):
                if text.startswith(shown + ending, first):
                    return shown, first + len(shown) + len(ending)
        raise RowError(
            "the chat template changes the answer, or does not end it with "
            f"{self.chat.stop_token!r}: after the generation prompt it writes "
            f"{text[start : start + 60]!r}"
        )

    def _calls(self, start: int, message: Message, said: Iterable[str]) -> tuple[int, int]:
        """Where the stop token of a turn that calls tools begins and ends.

        All that the turn says must stand before it. Data holds no special token, so the first stop
        token after the prompt is the template's.
        """
        places = [(self.text.find(stop, start), stop) for stop in self.chat.turn_stops]
        place, stop = min(((p, s) for p, s in places if p >= 0), default=(-1, ""))
        written = self.text[start:place]
        if place < 0 or not _calls_are_written(message["tool_calls"], written):
            raise RowError("has tool calls, which the chat template does not render")
        if any(part.strip() not in written for part in said):
            raise RowError("has text beside tool calls, which the chat template does not render")
        return place, place + len(stop)


# Turns that call tools


def _said(chat: ChatTemplate, written: str) -> str:
    """A turn that calls tools as a generated one reads: no reasoning, no special tokens."""
    said = written.rpartition(chat.answer_marker)[2] if chat.answer_marker else written
    return chat.special_pattern.sub("", said).strip()


def _calls_are_written(calls: Iterable[Mapping[str, object]], written: str) -> bool:
    for call in calls:
        function = call.get("function", call)
        assert isinstance(function, Mapping)  # the format has checked it
        values = [function.get("name"), *_leaves(function.get("arguments"))]
        if not all(any(form in written for form in _forms(value)) for value in values):
            return False
    return True


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _forms(value: object) -> Iterator[str]:
    """How a template may write a value: as JSON, or as Python does."""
    yield str(value)
    for ascii_only in (False, True):
        written = json.dumps(value, ensure_ascii=ascii_only)
        yield written[1:-1] if isinstance(value, str) else written


def _marks_differ(rendering: _Rendering, answers: Sequence[Answer], turns: Sequence[int]) -> bool:
    """Whether the template marks other text than is supervised."""
    chat, conversation = rendering.chat, rendering.conversation
    if not chat.generation_marks:
        return False
    text, marks = chat.renderer.marks(conversation, thinking=rendering.style.thinking)
    assistants = sum(message["role"] == "assistant" for message in conversation.messages)
    return not marks_agree(
        [
            (rendering.header(turn, answer.start), answer.start, answer.end)
            for turn, answer in zip(turns, answers, strict=True)
        ],
        marks,
        text,
        others=len(answers) < assistants,
        after_stop=chat.special_pattern,
    )
