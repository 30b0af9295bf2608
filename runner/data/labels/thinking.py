"""Reasoning: what a chat template has the model write before an answer.

A template may open the answer with a thinking block, with a channel's name, or with nothing, and
most reasoning templates can be told by ``enable_thinking``. Training and generation agree only
where the generation prompt is how the training text begins, and everything after it is then what
the model has to write and is supervised. So a template is tried with each value of
``enable_thinking`` that the recipe leaves open, on an answer without reasoning and on one with it:

- An answer without reasoning is rendered the way in which the model writes nothing before it, with
  thinking off rather than with an empty thinking block that it would have to write. Templates that
  open every answer with a channel's name have the model write that.
- An answer with reasoning (``reasoning_content``, or a ``<think>`` block in the content where the
  template reads it from there) is rendered with thinking on: thinking block and answer are
  supervised.
- The choice is made by row, from its last answer, and the row's prompt is rendered with the same
  value; so a held-out row is asked with the very prompt of its example.
- Reasoning of earlier turns is rendered as the template does, which mostly drops it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.data.formats.conversation import Conversation, Message
from runner.data.labels.chat_renderer import ChatRenderer
from runner.data.reading.row_template import RowError

# Letters only: no template trims, escapes or splits them.
QUESTION, ANSWER, REASONING = "ProofboxQuestion", "ProofboxAnswer", "ProofboxReasoning"
USER: Message = {"role": "user", "content": QUESTION}
ASSISTANT: Message = {"role": "assistant", "content": ANSWER}
REASONED: Message = {**ASSISTANT, "reasoning_content": REASONING}
THINK_BLOCK = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
SWITCH = "enable_thinking"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStyle:
    """How a template renders a last answer with one value of ``enable_thinking``.

    ``before`` is what the model writes before the answer; where there is reasoning, before that,
    and ``between`` is what it writes between the two. ``after`` is all that follows the answer.
    ``primer`` is the end of the generation prompt that an earlier turn does not have, and
    ``earlier`` what stands there before its answer.
    """

    thinking: bool | None
    before: str
    between: str
    after: str
    primer: str
    earlier: str

    def leads(self, reasoning: str | None) -> Iterator[str]:
        """What may stand between the generation prompt and the last answer."""
        if reasoning is None:
            yield self.before
            return
        for shown in trimmed_variants(reasoning):
            yield self.before + shown + self.between


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleFault:
    """Why a template renders no such answer: the rule it breaks, and what was seen."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} (rule {self.rule})"


def trimmed_variants(text: str) -> Iterator[str]:
    """A text as it is and with its outer white space, or line feeds, trimmed."""
    yield text  # nearly always the one that is looked for
    trimmed = (text.strip(), text.lstrip(), text.rstrip(), text.strip("\n"), text.lstrip("\n"))
    yield from (variant for variant in dict.fromkeys(trimmed) if variant != text)


def styles(
    renderer: ChatRenderer, thinking: bool | None, *, reasoned: bool
) -> list[AnswerStyle | StyleFault]:
    """The styles that the recipe leaves open, the first the one that the template has by itself."""
    values: Sequence[bool | None] = [thinking]
    if thinking is None and SWITCH in renderer.text:
        # True is what None means to most templates; written out, it also means it to the others.
        values = [True, None] if reasoned else [None, False]
    return [_style(renderer, value, reasoned=reasoned) for value in values]


def chosen_style(found: Sequence[AnswerStyle | StyleFault]) -> AnswerStyle | StyleFault:
    """The first style in which nothing stands before an answer, or else the first.

    The first fault where there is no style.
    """
    usable = [style for style in found if isinstance(style, AnswerStyle)]
    if not usable:
        return found[0]
    return min(usable, key=lambda style: bool(style.before.strip()))


def split_reasoning(message: Message, *, parses_blocks: bool) -> tuple[str | None, str]:
    """A message's reasoning, or None, and its answer.

    ``parses_blocks`` tells that the template takes reasoning out of a ``<think>`` block.
    """
    content = str(message.get("content") or "")
    reasoning = message.get("reasoning_content")
    if reasoning is None and parses_blocks and "</think>" in content:
        block = THINK_BLOCK.fullmatch(content)
        if block:
            reasoning, content = block.group(1), block.group(2)
            content = content.lstrip("\n")
    return (str(reasoning) if reasoning and str(reasoning).strip() else None), content


def parses_blocks(renderer: ChatRenderer, style: AnswerStyle) -> bool:
    """Whether a template takes reasoning out of a ``<think>`` block of the content."""
    block = {**ASSISTANT, "content": f"<think>\n{REASONING}\n</think>\n\n{ANSWER}"}
    separate, inside = (
        renderer.render(
            Conversation(messages=(USER, message)),
            generation_prompt=False,
            thinking=style.thinking,
        )
        for message in (REASONED, block)
    )
    places = [inside.find(part) for part in (REASONING, style.between.strip(), ANSWER)]
    doubled = inside.count("</think>") != separate.count("</think>")
    return -1 not in places and places == sorted(places) and not doubled


def _style(
    renderer: ChatRenderer, thinking: bool | None, *, reasoned: bool
) -> AnswerStyle | StyleFault:
    answer = REASONED if reasoned else ASSISTANT
    question = Conversation(messages=(USER,))
    answered = Conversation(messages=(USER, answer))
    try:
        prompt = renderer.render(question, generation_prompt=True, thinking=thinking)
        whole = renderer.render(answered, generation_prompt=False, thinking=thinking)
    except RowError as error:
        on = "on a conversation of one question and one answer"
        return StyleFault(rule="unusable_row", text=f"{error} ({on})")
    fault = _fault(prompt, whole, reasoned=reasoned)
    if fault is not None:
        return fault
    written, _, after = whole[len(prompt) :].partition(ANSWER)
    before, _, between = written.partition(REASONING) if reasoned else (written, "", "")
    primer, earlier = _earlier(renderer, thinking, prompt)
    return AnswerStyle(
        thinking=thinking,
        before=before,
        between=between,
        after=after,
        primer=primer,
        earlier=earlier,
    )


def _fault(prompt: str, whole: str, *, reasoned: bool) -> StyleFault | None:
    if QUESTION not in prompt:
        text = f"template.chat never renders the user's message: it gives {prompt!r}"
        return StyleFault(rule="unusable_row", text=text)
    if ANSWER not in whole:
        text = f"template.chat never renders the assistant's message: it gives {whole!r}"
        return StyleFault(rule="unusable_row", text=text)
    if not whole.startswith(prompt):
        text = (
            "template.chat: the generation prompt is not how the training text begins (trl#4147). "
            f"A model would be asked with {prompt!r} and trained on {whole!r}"
        )
        return StyleFault(rule="prompt_prefix", text=text)
    if reasoned and REASONING not in whole[len(prompt) :].partition(ANSWER)[0]:
        text = "has reasoning, which the chat template does not render before the answer"
        return StyleFault(rule="unusable_row", text=text)
    return None


def _earlier(renderer: ChatRenderer, thinking: bool | None, prompt: str) -> tuple[str, str]:
    """What only a generation prompt has before an answer, and what an earlier turn has there."""
    conversation = Conversation(messages=(USER, ASSISTANT, USER))
    try:
        text = renderer.render(conversation, generation_prompt=False, thinking=thinking)
    except RowError:
        return "", ""
    before = text.partition(ANSWER)[0]
    alike = common_length(prompt, before)
    return prompt[alike:], before[alike:]


def common_length(first: str, second: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
