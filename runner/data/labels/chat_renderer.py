"""A conversation as text, exactly as ``apply_chat_template`` gives it to a server.

``apply_chat_template`` copies all that it is given, checks it and gives reasoning more names. Where
messages are texts and nothing else, as in most rows, none of this changes a thing, and the template
is rendered directly, in a third of the time. Tests hold the two equal, for every template that
TRL ships.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runner.data.formats.conversation import Conversation
from runner.data.labels.special_tokens import Spans
from runner.data.reading.row_template import TEMPLATE_ERRORS, RowError

if TYPE_CHECKING:
    import jinja2

OURS = ("train",)  # keys of a message that are for this project and no template
_PLAIN = frozenset({"role", "content"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRenderer:
    """A chat template's Jinja source and the tokenizer's special tokens by name."""

    text: str
    variables: Mapping[str, Any]

    def render(
        self, conversation: Conversation, *, generation_prompt: bool, thinking: bool | None
    ) -> str:
        """The text of a conversation; ``thinking`` is given as ``enable_thinking`` unless None.

        Raises:
            RowError: the template raised.
        """
        if not _is_plain(conversation):
            return self._rendered(conversation, generation_prompt, thinking, marks=False)[0][0]
        try:
            return _compiled(self.text).render(
                messages=list(conversation.messages),
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                **self._variables(thinking),
            )
        except TEMPLATE_ERRORS as error:
            raise _told(error) from None

    def marks(self, conversation: Conversation, *, thinking: bool | None) -> tuple[str, Spans]:
        """The text of a conversation, and what ``{% generation %}`` marks in it, in characters.

        Raises:
            RowError: the template raised.
        """
        texts, marks = self._rendered(conversation, False, thinking, marks=True)
        return texts[0], tuple(marks[0])

    def _rendered(
        self,
        conversation: Conversation,
        generation_prompt: bool,
        thinking: bool | None,
        *,
        marks: bool,
    ) -> tuple[list[str], list[list[tuple[int, int]]]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            return render_jinja_template(  # type: ignore[return-value]  # annotated as str there
                conversations=[
                    [
                        {k: v for k, v in message.items() if v is not None and k not in OURS}
                        for message in conversation.messages
                    ]
                ],
                tools=[dict(tool) for tool in conversation.tools] or None,
                chat_template=self.text,
                add_generation_prompt=generation_prompt,
                return_assistant_tokens_mask=marks,
                **self._variables(thinking),
            )
        except TEMPLATE_ERRORS as error:
            raise _told(error) from None

    def _variables(self, thinking: bool | None) -> Mapping[str, Any]:
        """What the template may read besides the messages; special tokens are plain texts."""
        return (
            self.variables if thinking is None else {**self.variables, "enable_thinking": thinking}
        )


def _is_plain(conversation: Conversation) -> bool:
    """Whether there are texts alone, under names that ``apply_chat_template`` leaves as they are.

    Not texts of a class of their own: a template could call its methods.
    """
    if conversation.tools:
        return False
    for message in conversation.messages:
        if type(message) is not dict:
            return False
        for name, value in message.items():
            if type(value) is not str or name not in _PLAIN:
                return False
    return True


@lru_cache
def _compiled(text: str) -> jinja2.Template:
    """A chat template in the environment of ``apply_chat_template``: its sandbox and filters.

    It has these once more, in a dict: the chain of dicts that Jinja gives it is copied at every
    rendering.
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    theirs: jinja2.Template = _compile_jinja_template(text)
    environment = theirs.environment
    return environment.template_class.from_code(
        environment, environment.compile(text), dict(theirs.globals)
    )


def _told(error: BaseException) -> RowError:
    return RowError(f"template.chat raised {type(error).__name__}: {error}")
