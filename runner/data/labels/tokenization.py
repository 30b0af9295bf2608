"""Rendered conversations to token ids and labels, in batches.

The text is tokenized whole. Where its tokens do not fall apart at the end of a generation prompt
(a line feed of the prompt and one of the answer may be a single token), it is tokenized in pieces
cut there: a model that answers has been given the prompt's tokens, and goes on from them.

Where a special token stands is known by count: the n-th in the text is the n-th among the ids. So
no offsets are needed, and of a prompt only what follows its last special token is tokenized again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_template import ChatTemplate
from runner.data.labels.context_decoder import ContextDecoder
from runner.data.labels.labelled_rows import LabelledRows, labels_from_spans, ragged
from runner.data.labels.rendering import RenderedConversation, render_question
from runner.data.labels.special_tokens import Spans
from runner.data.labels.text_encoder import TextEncoder
from runner.data.prepared_data import ShownToken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARACTER_TOKENS = 4  # a character has at most 4 bytes in UTF-8, and a token at least one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedConversation:
    """Token ids of a conversation and of the generation prompt of its last answer.

    ``spans`` are the supervised stretches as (first token, token after the last), and
    ``supervised`` their texts, of which ``unsupervised_bytes`` at the beginning belong to a token
    that is not supervised. ``cut`` tells that the text was tokenized in pieces.
    """

    rendered: RenderedConversation
    input_ids: list[int]
    prompt_ids: list[int]
    spans: Spans
    supervised: tuple[str, ...]
    unsupervised_bytes: int = 0
    cut: bool = False

    @property
    def supervised_bytes(self) -> int:
        """UTF-8 bytes of the supervised text."""
        return sum(len(text.encode()) for text in self.supervised) - self.unsupervised_bytes


def question_token_ids(
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatTemplate,
    question: Conversation,
    *,
    escape: bool = False,
) -> list[int]:
    """Token ids of the generation prompt for a conversation that ends with the user's turn.

    Raises:
        RowError: the template raised, or a text holds a special token's name and ``escape`` is not
            set.
    """
    prompt, escaped = render_question(chat, question, escape=escape)
    return TextEncoder(tokenizer).piece(prompt, escaped, first=True)


def tokenize(
    encoder: TextEncoder, conversations: Sequence[RenderedConversation]
) -> list[TokenizedConversation]:
    """Tokenize a batch of rendered conversations and place their supervised spans."""
    rows = encoder.ids([conversation.text for conversation in conversations])
    places = _special_places(encoder, rows)
    return [
        (not conversation.escaped and _whole(encoder, conversation, ids, special))
        or _in_pieces(encoder, conversation)
        for conversation, ids, special in zip(conversations, rows, places, strict=True)
    ]


def _special_places(encoder: TextEncoder, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """For each row the places of its special tokens, among its ids."""
    batch = ragged(rows)
    found = np.flatnonzero(encoder.is_special[batch.values])
    first = np.searchsorted(found, batch.offsets)
    place = (found - np.repeat(batch.offsets[:-1], np.diff(first))).tolist()
    edges = first.tolist()
    return (place[a:b] for a, b in pairwise(edges))


@dataclass(frozen=True, slots=True)
class _TokenizedText:
    """A text tokenized whole: its ids, and where special tokens lie in it and among the ids."""

    encoder: TextEncoder
    text: str
    ids: list[int]
    special: Sequence[tuple[int, int]]
    places: Sequence[int]

    def first_token(self, start: int) -> int | None:
        """The token that begins at character ``start``; None where the prompt's are others."""
        last = bisect_right(self.special, start, key=itemgetter(1)) - 1
        if last >= 0:
            a, b = self.special[last]
            ending = self.encoder.after_special(self.text[a:b], self.text[b:start])
            if ending is not None:
                first = self.places[last] + 1
                after = first + len(ending)
                return after if self.ids[first:after] == ending else None
        (prompt,) = self.encoder.ids([self.text[:start]])
        return len(prompt) if self.ids[: len(prompt)] == prompt else None

    def after_stop(self, stop: int) -> int | None:
        """The token after the special token that begins at character ``stop``."""
        place = bisect_left(self.special, stop, key=itemgetter(0))
        found = place < len(self.special) and self.special[place][0] == stop
        return self.places[place] + 1 if found else None


def _whole(
    encoder: TextEncoder,
    conversation: RenderedConversation,
    ids: list[int],
    places: Sequence[int],
) -> TokenizedConversation | None:
    """The conversation tokenized whole; None where a token reaches over an answer's start."""
    special = [match.span() for match in encoder.pattern.finditer(conversation.text)]
    if len(special) != len(places):
        return None
    text = _TokenizedText(encoder, conversation.text, ids, special, places)
    spans = []
    for answer in conversation.answers:
        first, after = text.first_token(answer.start), text.after_stop(answer.stop)
        if first is None or after is None:
            return None
        spans.append((first, after))
    return TokenizedConversation(
        rendered=conversation,
        input_ids=ids,
        prompt_ids=ids[: spans[-1][0]],
        spans=tuple(spans) if conversation.supervised else (),
        supervised=_supervised(conversation),
    )


def _in_pieces(encoder: TextEncoder, conversation: RenderedConversation) -> TokenizedConversation:
    """The conversation cut where answers begin and end, as far as it does not fall apart there.

    Earlier answers are cut from the prompt only where its own tokens reach over their starts.
    """
    last = conversation.answers[-1]
    prompt_ids, spans = _prompt_if_whole(encoder, conversation) or _prompt_in_pieces(
        encoder, conversation
    )
    completion = _piece(encoder, conversation, last.start, last.end)
    rest = _piece(encoder, conversation, last.end, len(conversation.text))
    spans.append((len(prompt_ids), len(prompt_ids) + len(completion)))
    return TokenizedConversation(
        rendered=conversation,
        input_ids=[*prompt_ids, *completion, *rest],
        prompt_ids=prompt_ids,
        spans=tuple(spans) if conversation.supervised else (),
        supervised=_supervised(conversation),
        cut=True,
    )


def _prompt_if_whole(
    encoder: TextEncoder, conversation: RenderedConversation
) -> tuple[list[int], list[tuple[int, int]]] | None:
    """Ids of the last prompt as it is tokenized when asking, and spans of the answers in it."""
    *earlier, last = conversation.answers
    if not earlier:
        return _piece(encoder, conversation, 0, last.start), []
    if conversation.escaped:
        return None
    prompt = replace(
        conversation, text=conversation.prompt, answers=tuple(earlier), supervised=True
    )
    rows = encoder.ids([prompt.text])
    found = _whole(encoder, prompt, rows[0], next(_special_places(encoder, rows)))
    return (found.input_ids, list(found.spans)) if found else None


def _prompt_in_pieces(
    encoder: TextEncoder, conversation: RenderedConversation
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of the last prompt, cut where earlier answers begin and end, and those answers' spans."""
    *earlier, last = conversation.answers
    ids, end = list[int](), 0
    spans: list[tuple[int, int]] = []
    for answer in earlier:
        ids += _piece(encoder, conversation, end, answer.start)
        completion = _piece(encoder, conversation, answer.start, answer.end)
        spans.append((len(ids), len(ids) + len(completion)))
        ids += completion
        end = answer.end
    return ids + _piece(encoder, conversation, end, last.start), spans


def _piece(
    encoder: TextEncoder, conversation: RenderedConversation, start: int, end: int
) -> list[int]:
    """Ids of ``text[start:end]``, with the escaped names in it as text."""
    escaped = tuple((a - start, b - start) for a, b in conversation.escaped if start <= a < end)
    return encoder.piece(conversation.text[start:end], escaped, first=start == 0)


def _supervised(conversation: RenderedConversation) -> tuple[str, ...]:
    if not conversation.supervised:
        return ()
    return tuple(conversation.text[a.start : a.end] for a in conversation.answers)


def truncate(
    encoder: TextEncoder, conversation: TokenizedConversation, max_length: int
) -> TokenizedConversation | None:
    """Cut to at most ``max_length`` tokens, at the end of the last answer that fits with its stop.

    None where not even the first answer fits: what is left would teach the model never to stop
    (trl#3927).
    """
    rendered = conversation.rendered
    fitting = [
        a
        for a, span in zip(rendered.answers, conversation.spans, strict=False)
        if span[1] <= max_length
    ]
    if not fitting:
        return None
    end = fitting[-1].end
    escaped = tuple(span for span in rendered.escaped if span[1] <= end)
    shorter = replace(rendered, text=rendered.text[:end], answers=tuple(fitting), escaped=escaped)
    return tokenize(encoder, [shorter])[0]


def supervise_all(
    encoder: TextEncoder, conversation: TokenizedConversation
) -> TokenizedConversation:
    """Supervise every token but the first, which nothing predicts."""
    ids, text = conversation.input_ids, conversation.rendered.text
    (first,) = encoder.decoder.texts([ids[:1]])
    # A first token that is a part of a character has no text, and counts for nothing.
    shown = first if text.startswith(first) else first.lstrip()
    return replace(
        conversation,
        spans=((1, len(ids)),) if len(ids) > 1 else (),
        supervised=(text,),
        unsupervised_bytes=len(shown.encode()) if text.startswith(shown) else 0,
    )


def label(rows: Sequence[int], conversations: Sequence[TokenizedConversation]) -> LabelledRows:
    """Tokenized conversations of these source rows as flat arrays with labels."""
    input_ids = ragged([conversation.input_ids for conversation in conversations])
    spans = (
        (index, first, after)
        for index, conversation in enumerate(conversations)
        for first, after in conversation.spans
    )
    return LabelledRows(
        rows=np.array(rows, dtype=np.int64),
        input_ids=input_ids,
        labels=labels_from_spans(input_ids, spans),
        prompt_ids=ragged([conversation.prompt_ids for conversation in conversations]),
        prompts=tuple(c.rendered.prompt for c in conversations),
        questions=tuple(c.rendered.question for c in conversations),
        contexts=tuple(c.rendered.context for c in conversations),
        answers=tuple(c.rendered.answers[-1].text for c in conversations),
        supervised=tuple(c.supervised for c in conversations),
        supervised_bytes=np.array([c.supervised_bytes for c in conversations], dtype=np.int64),
        marks_differ=np.array([c.rendered.marks_differ for c in conversations], dtype=np.bool_),
    )


def shown_tokens(
    tokenizer: PreTrainedTokenizerBase, batch: LabelledRows, index: int
) -> tuple[ShownToken, ...]:
    """The tokens of one example of a batch as text, for people.

    The bytes of one character may be spread over several tokens: the last of them then shows the
    character, the others nothing.
    """
    decoder = ContextDecoder(tokenizer)
    begin, end = batch.input_ids.offsets[index : index + 2]
    ids = batch.input_ids.values[begin:end].tolist()
    mask = batch.mask[begin:end].tolist()
    shown: list[ShownToken] = []
    pending: list[int] = []
    for place, token in enumerate(ids):
        pending.append(token)
        text = decoder.texts([pending])[0]
        last = place + 1 == len(ids) or mask[place + 1] != mask[place]
        if "\ufffd" in text and len(pending) < CHARACTER_TOKENS and not last:
            shown.append(ShownToken(text="", supervised=mask[place]))
            continue
        shown.append(ShownToken(text=text, supervised=mask[place]))
        pending = []
    return tuple(shown)
