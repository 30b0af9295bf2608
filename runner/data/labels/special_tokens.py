"""The tokens that are one id and no text: what begins, ends and separates turns.

Data may hold their names as text, as a page about ``</s>`` does. Such a row is refused, or, with
``dataset.violations.special_token_in_text: escape``, its text is rendered with a stand-in for the
first character of every such name and tokenized with the matching of special tokens off, so that it
stays text wherever the row is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from runner.data.formats.conversation import Conversation
from runner.data.reading.row_template import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Unicode's private-use characters: no template trims, splits or looks for them.
STAND_INS = range(0xE000, 0xF900)
Json = TypeVar("Json")
Spans = tuple[tuple[int, int], ...]


class SpecialTokenError(RowError):
    """A row whose text holds the name of a special token."""


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The tokenizer's special tokens, as text -> id, in order of their ids."""
    found = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
        found.setdefault(token, number)
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches the text of any of ``tokens``, the longest first; nothing where there is none."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def special_token_in(conversation: Conversation, pattern: re.Pattern[str]) -> str | None:
    """Where a conversation's own text holds a special token's name, in words; or None."""
    for message in conversation.messages:
        for key, value in message.items():
            if key == "role":
                continue
            # Most values are texts; the walk through others is for tool calls.
            found = pattern.search(value) if isinstance(value, str) else _found(pattern, value)
            if found:
                return _told(f"the {message['role']}'s {_part(key)}", found.group())
    found = _found(pattern, conversation.tools)
    return _told("a tool's definition", found.group()) if found else None


def _found(pattern: re.Pattern[str], value: object) -> re.Match[str] | None:
    """The first match in any text inside a JSON value."""
    return next((match for match in map(pattern.search, texts_in(value)) if match), None)


def texts_in(value: object) -> Iterable[str]:
    """Every text inside a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_in(key)
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def with_texts(value: Json, change: Callable[[str], str]) -> Json:
    """A JSON value with every text inside it changed, keys included."""
    if isinstance(value, str):
        return change(value)  # type: ignore[return-value]  # a text stays a text
    if isinstance(value, Mapping):
        return {change(k): with_texts(v, change) for k, v in value.items()}  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        return [with_texts(item, change) for item in value]  # type: ignore[return-value]
    return value


def _part(key: str) -> str:
    return "text" if key == "content" else key


def _told(where: str, token: str) -> str:
    return f"{where} holds {token!r}, which the tokenizer would read as a special token"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedConversation:
    """A conversation in which a stand-in takes the place of each special name's first character.

    ``names`` is what each stand-in stands for: one character -> the whole name.
    """

    conversation: Conversation
    names: Mapping[str, str]

    def restored(self, text: str) -> tuple[str, Spans]:
        """A rendered text as it reads, and where special names stand in it as text.

        Raises:
            SpecialTokenError: the chat template took such a name apart.
        """
        if not self.names:
            return text, ()
        spans = []
        for place, character in enumerate(text):
            if character in self.names:
                name = self.names[character]
                if not text.startswith(name[1:], place + 1):
                    raise SpecialTokenError(
                        f"holds {name!r}, which cannot be escaped: the chat template takes it apart"
                    )
                spans.append((place, place + len(name)))
        return self.plain(text), tuple(spans)

    def plain(self, text: str) -> str:
        """``text`` with every stand-in replaced by the character it stands for."""
        return text.translate({ord(c): name[0] for c, name in self.names.items()})


def mask_special_tokens(conversation: Conversation, pattern: re.Pattern[str]) -> MaskedConversation:
    """A conversation whose special names no tokenizer or template takes for special tokens.

    Raises:
        SpecialTokenError: it uses up every private-use character.
    """
    texts = [*texts_in(list(conversation.messages)), *texts_in(list(conversation.tools))]
    names = dict.fromkeys(name for text in texts for name in pattern.findall(text))
    used = set().union(*texts) if names else set()
    free = (chr(code) for code in STAND_INS if chr(code) not in used)
    characters = dict(zip(names, free, strict=False))
    if len(characters) < len(names):
        raise SpecialTokenError("leaves no private-use character to escape special tokens with")

    def mask(text: str) -> str:
        return pattern.sub(lambda m: characters[m.group()] + m.group()[1:], text)

    masked = replace(
        conversation,
        messages=tuple(with_texts(message, mask) for message in conversation.messages),
        tools=tuple(with_texts(tool, mask) for tool in conversation.tools),
    )
    by_character = {character: name for name, character in characters.items()}
    return MaskedConversation(conversation=masked, names=by_character)
