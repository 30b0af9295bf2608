"""The label contract: what must hold of every example before it is trained or evaluated on.

The rules look at token ids and labels as they will be used, and not at how they came about, so a
fault anywhere before (template, tokenizer, truncation, a cache) shows here. A row of which nothing
is supervised breaks ``no_supervised_token``, and no rule about what is supervised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runner.data.labels.chat_template import ChatTemplate, LossOn
from runner.data.labels.context_decoder import ContextDecoder
from runner.data.labels.labelled_rows import LabelledRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Broken = NDArray[np.bool_]  # one value for each row of a batch


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the rules are checked against."""

    chat: ChatTemplate
    loss_on: LossOn
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int

    @cached_property
    def decoder(self) -> ContextDecoder:
        """Reads supervised tokens back."""
        return ContextDecoder(self.tokenizer)

    @cached_property
    def stop_ids(self) -> NDArray[np.int64]:
        """The tokens that a turn may end with, on all of which generation stops."""
        return np.array(sorted(self.chat.turn_stops.values()), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: what must hold, in words, and which rows of a batch break it."""

    text: str
    check: Callable[[LabelledRows, Contract], Broken]


def _none_supervised(batch: LabelledRows, contract: Contract) -> Broken:
    return ~batch.input_ids.any(batch.mask)


def _stop_unsupervised(batch: LabelledRows, contract: Contract) -> Broken:
    """A supervised stretch does not end with a stop token; with loss on all, none is in it."""
    ids, mask = batch.input_ids, batch.mask
    is_stop = np.isin(ids.values, contract.stop_ids)
    if contract.loss_on == "all":
        return ids.any(mask) & ~ids.any(is_stop & mask)
    return ids.any(_stretch_ends(batch) & ~is_stop)


def _stretch_ends(batch: LabelledRows) -> NDArray[np.bool_]:
    """Which tokens [total] are the last of a supervised stretch."""
    following = np.append(batch.mask[1:], np.False_)
    following[batch.input_ids.offsets[1:] - 1] = False
    return np.asarray(batch.mask & ~following)


def _stretch_starts(batch: LabelledRows) -> NDArray[np.bool_]:
    """Which tokens [total] are the first of a supervised stretch."""
    before = np.append(np.False_, batch.mask[:-1])
    before[batch.input_ids.offsets[:-1]] = False
    return np.asarray(batch.mask & ~before)


def _several_bos(batch: LabelledRows, contract: Contract) -> Broken:
    """More than one beginning-of-sequence token, or not as many in the prompt as in the example.

    Where it doubles as the stop token, only the first two tokens can tell.
    """
    bos = contract.chat.bos_token_id
    if bos is None:
        return np.zeros(len(batch.rows), dtype=np.bool_)
    doubles = bos in contract.chat.stop_token_ids
    whole, prompt = (
        part.sums((part.values == bos) & ((part.place() <= 1) if doubles else True))
        for part in (batch.input_ids, batch.prompt_ids)
    )
    return np.asarray((whole > 1) | (whole != prompt))


def _prompt_no_prefix(batch: LabelledRows, contract: Contract) -> Broken:
    whole, prompt = batch.input_ids, batch.prompt_ids
    too_long = prompt.lengths >= whole.lengths
    place = prompt.place() + np.repeat(whole.offsets[:-1], prompt.lengths)
    within = np.minimum(place, max(0, len(whole.values) - 1))
    return too_long | prompt.any(whole.values[within] != prompt.values)


def _reads_otherwise(batch: LabelledRows, contract: Contract) -> Broken:
    """A supervised stretch reads otherwise than an answer with its stop token, or is one too many.

    With loss on all the whole row is read: its first token, which is not supervised, may hold a
    part of a character only.
    """
    starts, ends = np.flatnonzero(_stretch_starts(batch)), np.flatnonzero(_stretch_ends(batch))
    rows = np.searchsorted(batch.input_ids.offsets, starts, side="right") - 1
    if contract.loss_on == "all":
        starts = np.where(starts == batch.input_ids.offsets[rows] + 1, starts - 1, starts)
    values = batch.input_ids.values.tolist()
    texts = contract.decoder.texts(
        [values[a : b + 1] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    )
    found: list[list[str]] = [[] for _ in batch.rows]
    for row, text in zip(rows.tolist(), texts, strict=True):
        found[row].append(text)
    differ = contract.decoder.differ
    return np.array(
        [
            bool(read) and (len(read) != len(wanted) or any(map(differ, read, wanted)))
            for read, wanted in zip(found, batch.supervised, strict=True)
        ],
        dtype=np.bool_,
    )


def _supervised_outside(batch: LabelledRows, contract: Contract) -> Broken:
    """A token of a prompt is supervised, or a label is another token than the input's.

    The answers begin where their prompts end. That nothing is supervised after an answer, the
    stop-token rule sees. Earlier answers lie in the prompt of the last; of them the decoded text
    tells.
    """
    ids, mask = batch.input_ids, batch.mask
    place = ids.place()
    shifted = ids.any(mask & (batch.labels != ids.values))
    if contract.loss_on == "all":
        return shifted | ids.any(mask & (place == 0))
    prompt_length = np.repeat(batch.prompt_ids.lengths, ids.lengths)
    missed = ids.any(mask) & ~ids.any(mask & (place == prompt_length))
    if contract.loss_on == "assistant_turns":
        return shifted | missed
    return shifted | missed | ids.any(mask & (place < prompt_length))


def _marks_differ(batch: LabelledRows, contract: Contract) -> Broken:
    return batch.marks_differ


def _unknown_tokens(batch: LabelledRows, contract: Contract) -> Broken:
    """More unknown tokens than the template itself writes."""
    chat = contract.chat
    if chat.unk_token is None or chat.unk_token_id is None:
        return np.zeros(len(batch.rows), dtype=np.bool_)
    counts = batch.input_ids.sums(batch.input_ids.values == chat.unk_token_id)
    if not chat.writes_unk:
        return np.asarray(counts > 0)
    ends = [texts[-1] if texts else "" for texts in batch.supervised]
    if contract.loss_on != "all":
        ends = [prompt + end for prompt, end in zip(batch.prompts, ends, strict=True)]
    return np.asarray(counts > np.array([text.count(chat.unk_token) for text in ends], np.int64))


def _beyond_vocabulary(batch: LabelledRows, contract: Contract) -> Broken:
    values = batch.input_ids.values
    return batch.input_ids.any((values < 0) | (values >= contract.vocabulary))


# By the keys of ``dataset.violations``; each says what must hold.
RULES: Mapping[str, Rule] = {
    "no_supervised_token": Rule("some token is supervised", _none_supervised),
    "stop_token": Rule(
        "every answer ends with a supervised stop token, on which generation stops",
        _stop_unsupervised,
    ),
    "beginning_token": Rule(
        "at most one beginning-of-sequence token, as many as in the prompt", _several_bos
    ),
    "prompt_prefix": Rule("the generation prompt is a token prefix", _prompt_no_prefix),
    "answer_text": Rule(
        "the supervised text decodes to the answers and their stop tokens", _reads_otherwise
    ),
    "outside_answer": Rule(
        "nothing outside the answers is supervised, labels equal the input ids",
        _supervised_outside,
    ),
    "generation_marks": Rule(
        "what is supervised is what the chat template marks, where it does", _marks_differ
    ),
    "unknown_token": Rule("the tokenizer knows a token for every text", _unknown_tokens),
    "vocabulary": Rule("token ids lie within the model's vocabulary", _beyond_vocabulary),
}
# The rules of a row that are checked before it has tokens.
TEXTS: Mapping[str, str] = {
    "unusable_row": "a conversation ends with an answer, and the chat template renders all of it",
    "special_token_in_text": "no text holds a special token's name",
    "empty_answer": "the answer has a visible character",
}


@dataclass(frozen=True, slots=True)
class ContractCheck:
    """Checks batch after batch."""

    contract: Contract

    def check(self, batch: LabelledRows) -> dict[str, list[int]]:
        """Check every rule on every row; gives the places in the batch of rows that break each."""
        found = {}
        for key, rule in RULES.items():
            places = np.flatnonzero(rule.check(batch, self.contract)).tolist()
            if places:
                found[key] = places
        return found
