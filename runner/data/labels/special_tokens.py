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
    """The tokenizer's special tokens, as text -> id, in order of their ids.

    An ordinary token that only the recipe makes the padding token is ordinary text in data.
    """
    found = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    named = {kind: str(token) for kind, token in tokenizer.special_tokens_map.items()}
    pad = named.pop("pad_token", None)
    for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
        if token != pad or token in named.values():
            found.setdefault(token, number)
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches the text of any of ``tokens``, the longest first; nothing where there is none."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def special_token_in(conversation: Conversation, pattern: re.Pattern[str]) -> str | None:
    """Where a conversation's own text holds a special token's name, in words; or None."""
    found = _first_place(conversation, pattern)
    if found is None:
        return None
    where, token = found
    return f"{where} holds {token!r}, which the tokenizer would read as a special token"


def _first_place(conversation: Conversation, pattern: re.Pattern[str]) -> tuple[str, str] | None:
    """The first match in a conversation's own text: whose text it is, in words, and the match."""
    for message in conversation.messages:
        for key, value in message.items():
            if key == "role":
                continue
            # Most values are texts; the walk through others is for tool calls.
            found = pattern.search(value) if isinstance(value, str) else _found(pattern, value)
            if found:
                return f"the {message['role']}'s {_part(key)}", found.group()
    found = _found(pattern, conversation.tools)
    return ("a tool's definition", found.group()) if found else None


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


def _encoded(character: str) -> tuple[str, ...]:
    """A stand-in as templates encode it: in JSON, HTML and URLs, in lower case."""
    code = ord(character)
    url = "".join(f"%{byte:02x}" for byte in character.encode())
    return f"\\u{code:04x}", f"&#x{code:x};", f"&#{code};", url


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
            SpecialTokenError: the chat template took such a name apart, or encodes it.
        """
        if not self.names:
            return text, ()
        lower = text.lower()
        for character in self.names:
            if any(form in lower for form in _encoded(character)):
                raise self._refusal(character, "encodes it")
        spans = []
        for place, character in enumerate(text):
            if character in self.names:
                name = self.names[character]
                if not text.startswith(name[1:], place + 1):
                    raise self._refusal(character, "takes it apart")
                spans.append((place, place + len(name)))
        return self.plain(text), tuple(spans)

    def plain(self, text: str) -> str:
        """``text`` with every stand-in replaced by the character it stands for."""
        return text.translate({ord(c): name[0] for c, name in self.names.items()})

    def told(self, message: str) -> str:
        """A message to people with names in place of stand-ins, however these are written."""
        for character, name in self.names.items():
            forms = any_of([character, *_encoded(character)]).pattern
            message = name[0].join(re.split(forms, message, flags=re.IGNORECASE))
        return message

    def _refusal(self, character: str, why: str) -> SpecialTokenError:
        found = _first_place(self.conversation, re.compile(character))
        assert found is not None  # a stand-in is in the conversation whose names it masks
        name = self.names[character]
        return SpecialTokenError(
            f"{found[0]} holds {name!r}, which cannot be escaped: the chat template {why}"
        )


def mask_special_tokens(conversation: Conversation, pattern: re.Pattern[str]) -> MaskedConversation:
    """A conversation whose special names no tokenizer or template takes for special tokens.

    Raises:
        SpecialTokenError: it uses up every private-use character.
    """
    texts = [*texts_in(list(conversation.messages)), *texts_in(list(conversation.tools))]
    names = dict.fromkeys(name for text in texts for name in pattern.findall(text))
    used = set().union(*texts) if names else set()
    written = "\n".join(texts).lower() if names else ""
    free = (
        character
        for character in map(chr, STAND_INS)
        if character not in used and not any(form in written for form in _encoded(character))
    )
    characters = dict(zip(names, free, strict=False))
    if len(characters) < len(names):
        raise SpecialTokenError(
            "the conversation uses every private-use character: none is left to escape special "
            "tokens with"
        )

    def mask(text: str) -> str:
        return pattern.sub(lambda m: characters[m.group()] + m.group()[1:], text)

    masked = replace(
        conversation,
        messages=tuple(with_texts(message, mask) for message in conversation.messages),
        tools=tuple(with_texts(tool, mask) for tool in conversation.tools),
    )
    by_character = {character: name for name, character in characters.items()}
    return MaskedConversation(conversation=masked, names=by_character)
