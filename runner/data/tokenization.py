"""Rendered conversations to token ids and labels, in batches.

The text is tokenized whole. Where its tokens do not fall apart at the end of a generation prompt
(a line feed of the prompt and one of the answer may be a single token), it is tokenized in pieces
cut there: a model that answers has been given the prompt's tokens, and goes on from them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from runner.data.chat_template import Answer, RenderedConversation
from runner.data.labelled_rows import LabelledRows, labels_from_spans, ragged
from runner.data.prepared_data import ShownToken
from runner.data.special_tokens import any_of, special_tokens

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

CHARACTER_TOKENS = 4  # a character has at most 4 bytes in UTF-8, and a token at least one of them
ANCHORS = "\na.0-"  # characters to tokenize a piece after: one of them does not merge with it
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedConversation:
    """Token ids of a conversation and of the generation prompt of its last answer.

    ``spans`` are the supervised stretches as (first token, token after the last), and
    ``supervised`` their texts. ``cut`` tells that the text was tokenized in pieces.
    """

    rendered: RenderedConversation
    input_ids: list[int]
    prompt_ids: list[int]
    spans: Spans
    supervised: tuple[str, ...]
    cut: bool = False


@dataclass(frozen=True)
class ContextDecoder:
    """Decodes tokens as they read in the middle of a text.

    Sentencepiece decoders drop the first space of what they are given, so ids are decoded after an
    anchor, whose own text is taken off.
    """

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def _anchor(self) -> tuple[int, int]:
        """Id of an ordinary token and the length of its text."""
        token = int(self.tokenizer("a", add_special_tokens=False)["input_ids"][-1])
        return token, len(self._decode([[token]])[0])

    @cached_property
    def prefix(self) -> str:
        """What the tokenizer puts before a text and after special tokens: a space, or nothing."""
        ids = encode(self.tokenizer, ["a"])["input_ids"][0]
        return self.texts([ids])[0].removesuffix("a")

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids, special tokens included."""
        anchor, length = self._anchor
        return [text[length:] for text in self._decode([[anchor, *ids] for ids in rows])]

    def differ(self, found: str, wanted: str) -> bool:
        """Whether decoded text is another than ``wanted``, as far as the tokenizer can keep it.

        One that normalizes its input (NFC, say) or puts a space after special tokens cannot give
        a text back otherwise, so the two are compared as it would have them.
        """
        if found == wanted:
            return False
        if self.prefix:
            added = re.compile(f"(^|{self._special.pattern}){re.escape(self.prefix)}")
            found, wanted = added.sub(r"\1", found), added.sub(r"\1", wanted)
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        if normalizer is not None:
            found, wanted = normalizer.normalize_str(found), normalizer.normalize_str(wanted)
        return found != wanted

    @cached_property
    def _special(self) -> re.Pattern[str]:
        return any_of(special_tokens(self.tokenizer))

    def _decode(self, rows: list[list[int]]) -> list[str]:
        backend = self.tokenizer.backend_tokenizer
        return list(backend.decode_batch(rows, skip_special_tokens=False))


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> BatchEncoding:
    """Token ids of rendered texts. The template writes the special tokens, so none are added."""
    encoding: BatchEncoding = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return encoding


def tokenize(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[RenderedConversation]
) -> list[TokenizedConversation]:
    """Tokenize a batch of rendered conversations and place their supervised spans."""
    if not conversations:
        return []
    wholes = [conversation.text for conversation in conversations]
    encoding = encode(tokenizer, wholes + [conversation.prompt for conversation in conversations])
    decoder = ContextDecoder(tokenizer)
    return [
        _tokenized(decoder, encoding, index, index + len(wholes), conversation)
        for index, conversation in enumerate(conversations)
    ]


def _tokenized(
    decoder: ContextDecoder,
    encoding: BatchEncoding,
    whole: int,
    prompt: int,
    conversation: RenderedConversation,
) -> TokenizedConversation:
    """One conversation whose text and prompt are items ``whole`` and ``prompt`` of ``encoding``."""
    *earlier, last = conversation.answers
    input_ids, prompt_ids = encoding["input_ids"][whole], encoding["input_ids"][prompt]
    spans = [_span(encoding, prompt, answer) for answer in earlier]
    cut = None in spans
    if cut:
        prompt_ids, spans = _prompt_in_pieces(decoder, conversation)
    last_span = _span(encoding, whole, last)
    if cut or last_span is None or input_ids[: len(prompt_ids)] != prompt_ids:
        cut = True
        completion = _piece(decoder, conversation.text[last.start : last.end])
        rest = encode(decoder.tokenizer, [conversation.text[last.end :]])["input_ids"][0]
        input_ids = [*prompt_ids, *completion, *rest]
        last_span = (len(prompt_ids), len(prompt_ids) + len(completion))
    return TokenizedConversation(
        rendered=conversation,
        input_ids=input_ids,
        prompt_ids=prompt_ids,
        spans=tuple(span for span in (*spans, last_span) if span is not None),
        supervised=tuple(conversation.text[a.start : a.end] for a in conversation.answers),
        cut=cut,
    )


def _span(encoding: BatchEncoding, index: int, answer: Answer) -> tuple[int, int] | None:
    """Token span of ``answer``, or None where a token reaches over its start.

    Offsets may leave out white space (``trim_offsets``), so a character that belongs to no token
    decides nothing, and counts as reached over.
    """
    first = encoding.char_to_token(index, answer.start)
    before = encoding.char_to_token(index, answer.start - 1)
    stop = encoding.char_to_token(index, answer.stop)
    if first is None or before is None or stop is None or first == before:
        return None
    return first, stop + 1


def _prompt_in_pieces(
    decoder: ContextDecoder, conversation: RenderedConversation
) -> tuple[list[int], list[tuple[int, int] | None]]:
    """Ids of the last prompt, cut where earlier answers begin and end, and those answers' spans."""
    *earlier, last = conversation.answers
    text, ids, end = conversation.text, list[int](), 0
    spans: list[tuple[int, int] | None] = []
    for answer in earlier:
        ids += encode(decoder.tokenizer, [text[end : answer.start]])["input_ids"][0]
        completion = _piece(decoder, text[answer.start : answer.end])
        spans.append((len(ids), len(ids) + len(completion)))
        ids += completion
        end = answer.end
    ids += encode(decoder.tokenizer, [text[end : last.start]])["input_ids"][0]
    return ids, spans


def _piece(decoder: ContextDecoder, text: str) -> list[int]:
    """Ids of a piece that goes on after other text.

    Sentencepiece tokenizers put a space before what they are given. Where the piece does not read
    as it should on its own, it is tokenized after a character whose ids are then taken off.
    """
    tokenizer = decoder.tokenizer
    ids: list[int] = encode(tokenizer, [text])["input_ids"][0]
    if decoder.texts([ids]) == [text]:
        return ids
    for before in ANCHORS:
        alone, followed = encode(tokenizer, [before, before + text])["input_ids"]
        rest: list[int] = followed[len(alone) :]
        if followed[: len(alone)] == alone and decoder.texts([rest]) == [text]:
            return rest
    return ids  # the label contract judges whether this will do


def truncate(
    tokenizer: PreTrainedTokenizerBase, conversation: TokenizedConversation, max_length: int
) -> TokenizedConversation | None:
    """Cut to at most ``max_length`` tokens, at the end of the last answer that fits with its stop.

    None where not even the first answer fits: what is left would teach the model never to stop
    (trl#3927).
    """
    rendered = conversation.rendered
    fitting = [
        a
        for a, span in zip(rendered.answers, conversation.spans, strict=True)
        if span[1] <= max_length
    ]
    if not fitting:
        return None
    text = rendered.text[: fitting[-1].end]
    return tokenize(tokenizer, [replace(rendered, text=text, answers=tuple(fitting))])[0]


def supervise_all(
    tokenizer: PreTrainedTokenizerBase, conversation: TokenizedConversation
) -> TokenizedConversation:
    """Supervise every token but the first, which nothing predicts."""
    ids = conversation.input_ids
    first = str(tokenizer.decode(ids[:1], clean_up_tokenization_spaces=False))
    text = conversation.rendered.text.removeprefix(first)
    return replace(conversation, spans=((1, len(ids)),), supervised=(text,))


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
        answers=tuple(c.rendered.answers[-1].text for c in conversations),
        supervised=tuple(c.supervised for c in conversations),
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
