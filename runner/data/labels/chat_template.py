"""The one owner of chat templates: where one comes from, and what it does with a tokenizer.

Everything is seen on sentinel conversations that are rendered once, before any row. How rows are
rendered is in ``rendering``, reasoning in ``thinking``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.data.formats.conversation import Conversation, Message
from runner.data.labels.chat_renderer import ChatRenderer
from runner.data.labels.generation_marks import has_marks
from runner.data.labels.special_tokens import any_of, special_tokens
from runner.data.labels.thinking import (
    ANSWER,
    ASSISTANT,
    QUESTION,
    REASONING,
    SWITCH,
    USER,
    AnswerStyle,
    StyleFault,
    chosen_style,
    common_length,
    parses_blocks,
    styles,
)
from runner.data.reading.row_template import RowError
from runner.digests import text_digest
from runner.errors import DataError
from runner.recipe import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LossOn = Literal["completion", "assistant_turns", "all"]

BUILT_IN = Path(__file__).parent / "chat_templates"
_SYSTEM, _FUNCTION, _ARGUMENT, _RESULT = (
    "ProofboxSystem",
    "proofbox_function",
    "ProofboxArgument",
    "ProofboxResult",
)
_TOOL = {
    "type": "function",
    "function": {
        "name": _FUNCTION,
        "description": "A function.",
        "parameters": {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "A text."}},
            "required": ["text"],
        },
    },
}
# Nine letters and digits: some templates take no other id.
_CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "type": "function",
            "id": "call00001",
            "function": {"name": _FUNCTION, "arguments": {"text": _ARGUMENT}},
        }
    ],
}
_TOOL_TURN: Message = {
    "role": "tool",
    "name": _FUNCTION,
    "tool_call_id": "call00001",
    "content": _RESULT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A chat template and what was derived from it with sentinel conversations.

    ``plain`` and ``reasoned`` tell how it renders answers without and with reasoning, or why it
    does not. ``ending`` is what follows an answer, up to and including the stop token; apart from
    the stop token it is white space. A model is trained on it and generates it. A turn that calls
    tools ends with any of ``turn_stops`` (text -> id). ``special_pattern`` matches any special
    token's text. ``answer_marker`` is the end of what the model writes before an answer, if
    anything: a generated answer begins after it.
    """

    renderer: ChatRenderer
    digest: str
    plain: AnswerStyle | StyleFault
    reasoned: AnswerStyle | StyleFault
    parses_blocks: bool
    ending: str
    stop_token: str
    stop_token_id: int
    turn_stops: dict[str, int]
    stop_token_ids: tuple[int, ...]
    bos_token: str | None
    bos_token_id: int | None
    unk_token: str | None
    unk_token_id: int | None
    renders_system: bool
    renders_tools: bool
    renders_tool_turns: bool
    renders_date: bool
    writes_bos: bool
    writes_unk: bool
    generation_marks: bool
    answer_marker: str
    special_pattern: re.Pattern[str]

    @property
    def text(self) -> str:
        """Its Jinja source."""
        return self.renderer.text

    @property
    def style(self) -> AnswerStyle:
        """The style of answers without reasoning, or of those with it where there is no other."""
        found = self.plain if isinstance(self.plain, AnswerStyle) else self.reasoned
        assert isinstance(found, AnswerStyle)  # probe_chat_template refuses a template without
        return found

    def opens_thinking(self, text: str) -> bool:
        """Whether ``text``, the end of a generation prompt, begins with what opens reasoning."""
        if not isinstance(self.reasoned, AnswerStyle):
            return False
        opening = (self.reasoned.primer + self.reasoned.before).strip()
        return bool(opening) and text.strip().startswith(opening)

    @property
    def thinking(self) -> bool | None:
        """What is given as ``enable_thinking`` where an answer without reasoning is due."""
        return self.style.thinking

    def thinking_for(self, *, reasoned: bool) -> bool | None:
        """What is given as ``enable_thinking`` to ask for answers with or without reasoning."""
        if reasoned and isinstance(self.reasoned, AnswerStyle):
            return self.reasoned.thinking
        return self.thinking

    @property
    def lead(self) -> str:
        """What a model writes between the generation prompt and an answer without reasoning."""
        return self.style.before


def resolve_chat_template(
    block: Template, tokenizer: PreTrainedTokenizerBase, base_folder: Path
) -> ChatTemplate:
    """The recipe's chat template, read and probed.

    Raises:
        DataError: there is none, or it cannot be trained with.
    """
    text = chat_template_text(block, tokenizer, base_folder)
    return probe_chat_template(text, tokenizer, block.thinking)


def probe_chat_template(
    text: str, tokenizer: PreTrainedTokenizerBase, thinking: bool | None = None
) -> ChatTemplate:
    """What a chat template does with this tokenizer, seen on sentinel conversations.

    ``thinking`` is given to it as ``enable_thinking``; None leaves the choice to ``thinking.py``.

    Raises:
        DataError: it is broken, it raises, it does not render the answer, its generation prompt is
            not how the text begins, or no special token ends an answer. The message names the rule.
    """
    renderer = ChatRenderer(text=text, variables=dict(tokenizer.special_tokens_map))
    _refuse_unread_switch(text, thinking)
    plain = chosen_style(styles(renderer, thinking, reasoned=False))
    reasoned = chosen_style(styles(renderer, thinking, reasoned=True))
    main = plain if isinstance(plain, AnswerStyle) else reasoned
    if not isinstance(main, AnswerStyle):
        raise DataError(str(plain))
    special = special_tokens(tokenizer)
    pattern = any_of(special)
    ending, stop = _ending(main.after, pattern, list(special))
    if isinstance(reasoned, AnswerStyle) and not reasoned.after.startswith(ending):
        reasoned = StyleFault(rule="stop_token", text="ends an answer with reasoning otherwise")
    call_stop = _call_stop(renderer, main, pattern, stop)
    turn_stops = {token: special[token] for token in dict.fromkeys((stop, call_stop or stop))}
    prompt = _prompt(renderer, main, USER)
    return ChatTemplate(
        renderer=renderer,
        digest=text_digest(text),
        plain=plain,
        reasoned=reasoned,
        parses_blocks=isinstance(reasoned, AnswerStyle) and parses_blocks(renderer, reasoned),
        ending=ending,
        stop_token=stop,
        stop_token_id=special[stop],
        turn_stops=turn_stops,
        stop_token_ids=_distinct(*turn_stops.values(), tokenizer.eos_token_id),
        bos_token=tokenizer.bos_token,
        bos_token_id=tokenizer.bos_token_id,
        unk_token=tokenizer.unk_token,
        unk_token_id=tokenizer.unk_token_id,
        renders_system=_SYSTEM
        in _prompt(renderer, main, {"role": "system", "content": _SYSTEM}, USER),
        renders_tools=_FUNCTION in _prompt(renderer, main, USER, tools=True),
        renders_tool_turns=_RESULT in _prompt(renderer, main, USER, _CALL, _TOOL_TURN, tools=True),
        renders_date="strftime_now" in text,
        writes_bos=bool(tokenizer.bos_token) and tokenizer.bos_token in prompt,
        writes_unk=bool(tokenizer.unk_token) and tokenizer.unk_token in prompt + main.after,
        generation_marks=has_marks(text),
        answer_marker=_answer_marker(plain, reasoned),
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
        text = (BUILT_IN / f"{block.chat}.jinja").read_text(encoding="utf-8")
        plain = block.chat == "none" and begins_plain_text(tokenizer)
        return "{{- bos_token -}}\n" + text if plain else text
    path = base_folder / block.chat
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(
            f"template.chat: {block.chat!r} cannot be read ({path}): {reason}"
        ) from None


def begins_plain_text(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its beginning-of-sequence token before plain text."""
    ids: list[int] = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


# Probing a template


def _refuse_unread_switch(text: str, thinking: bool | None) -> None:
    if thinking is not None and SWITCH not in text:
        raise DataError(
            f"template.thinking is {str(thinking).lower()}, but the chat template does not read "
            f"`{SWITCH}`. Take the key out."
        )


def _ending(after: str, pattern: re.Pattern[str], special: Sequence[str]) -> tuple[str, str]:
    """What follows an answer up to its stop token, and that token."""
    found = pattern.search(after)
    if found is None:
        raise DataError(_no_stop_token(after, special))
    if after[: found.start()].strip():
        raise DataError(
            f"template.chat writes {after[: found.start()]!r} after the answer, before the stop "
            "token, so every answer that the model generates would hold it too. Give a .jinja file "
            "whose stop token follows the answer. (rule answer_text)"
        )
    return after[: found.end()], found.group()


def _no_stop_token(tail: str, special: Sequence[str]) -> str:
    shown = ", ".join(special) or "none"
    return (
        f"template.chat ends an answer with {tail!r}, which holds no special token of "
        f"this tokenizer, so a model could not learn to stop (rule stop_token). "
        f"Its special tokens: {shown}"
    )


def _call_stop(
    renderer: ChatRenderer, style: AnswerStyle, pattern: re.Pattern[str], stop: str
) -> str | None:
    """The token that ends a turn that calls a tool; None where no call is rendered."""
    conversation = Conversation(messages=(USER, _CALL), tools=(_TOOL,))
    try:
        text = renderer.render(conversation, generation_prompt=False, thinking=style.thinking)
    except RowError:
        return None
    _, found, after = text.rpartition(_ARGUMENT)
    tokens = pattern.findall(after) if found else []
    if not tokens or stop in tokens:
        return None
    return str(tokens[-1])


def _prompt(
    renderer: ChatRenderer, style: AnswerStyle, *messages: Message, tools: bool = False
) -> str:
    """A generation prompt; empty where the template refuses the messages."""
    conversation = Conversation(messages=messages, tools=(_TOOL,) if tools else ())
    try:
        return renderer.render(conversation, generation_prompt=True, thinking=style.thinking)
    except RowError:
        return ""


def _answer_marker(plain: AnswerStyle | StyleFault, reasoned: AnswerStyle | StyleFault) -> str:
    """The common end of all that the model may write before an answer."""
    written = []
    if isinstance(plain, AnswerStyle) and plain.before.strip():
        written.append(plain.before)
    if isinstance(reasoned, AnswerStyle):
        written.append(reasoned.before + REASONING + reasoned.between)
    if not written:
        return ""
    first, last = written[0], written[-1]
    alike = common_length(first[::-1], last[::-1])
    return first[len(first) - alike :].rpartition(REASONING)[2].strip()


def _distinct(*ids: int | None) -> tuple[int, ...]:
    return tuple(dict.fromkeys(number for number in ids if number is not None))


__all__ = [
    "ANSWER",
    "ASSISTANT",
    "QUESTION",
    "ChatTemplate",
    "LossOn",
    "begins_plain_text",
    "chat_template_text",
    "probe_chat_template",
    "resolve_chat_template",
]
