"""The label contract: what must hold of every example before it is trained or evaluated on.

The rules look at token ids and labels as they will be used, and not at how they came about, so a
fault anywhere before (template, tokenizer, truncation, a cache) shows here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runner.data.chat_template import ChatTemplate, LossOn
from runner.data.labelled_rows import LabelledRows
from runner.data.prepared_data import CheckedRule
from runner.data.row_faults import SHOWN
from runner.data.tokenization import ContextDecoder
from runner.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Broken = NDArray[np.bool_]  # one value for each row of a batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the rules are checked against."""

    chat: ChatTemplate
    loss_on: LossOn
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int


def _some_supervised(batch: LabelledRows, contract: Contract) -> Broken:
    return ~batch.input_ids.any(batch.mask)


def _stop_supervised(batch: LabelledRows, contract: Contract) -> Broken:
    """Every supervised stretch ends with the stop token; with loss on all, one is in it."""
    ids, mask = batch.input_ids, batch.mask
    is_stop = ids.values == contract.chat.stop_token_id
    if contract.loss_on == "all":
        return ~ids.any(is_stop & mask)
    ends = _stretch_ends(batch)
    return ids.any(ends & ~is_stop) | ~ids.any(ends)


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


def _one_bos(batch: LabelledRows, contract: Contract) -> Broken:
    """At most one beginning-of-sequence token, and as many in the prompt as in the example.

    Where it doubles as the stop token, only the first two tokens can tell.
    """
    bos, doubles = (
        contract.chat.bos_token_id,
        contract.chat.bos_token_id in contract.chat.stop_token_ids,
    )
    whole, prompt = (
        part.sums((part.values == bos) & ((part.place() <= 1) | (not doubles)))
        for part in (batch.input_ids, batch.prompt_ids)
    )
    return np.asarray((whole > 1) | (whole != prompt))


def _prompt_is_prefix(batch: LabelledRows, contract: Contract) -> Broken:
    whole, prompt = batch.input_ids, batch.prompt_ids
    too_long = prompt.lengths >= whole.lengths
    place = prompt.place() + np.repeat(whole.offsets[:-1], prompt.lengths)
    within = np.minimum(place, max(0, len(whole.values) - 1))
    return too_long | prompt.any(whole.values[within] != prompt.values)


def _decodes_to_answer(batch: LabelledRows, contract: Contract) -> Broken:
    """Each supervised stretch reads as an answer with its stop token; there are no others."""
    decoder = ContextDecoder(contract.tokenizer)
    starts, ends = np.flatnonzero(_stretch_starts(batch)), np.flatnonzero(_stretch_ends(batch))
    rows = np.searchsorted(batch.input_ids.offsets, starts, side="right") - 1
    values = batch.input_ids.values
    found: list[list[str]] = [[] for _ in batch.rows]
    texts = decoder.texts([values[a : b + 1].tolist() for a, b in zip(starts, ends, strict=True)])
    for row, text in zip(rows, texts, strict=True):
        found[row].append(text)
    return np.array(
        [
            len(read) != len(wanted) or any(map(decoder.differ, read, wanted))
            for read, wanted in zip(found, batch.supervised, strict=True)
        ],
        dtype=np.bool_,
    )


def _nothing_else_supervised(batch: LabelledRows, contract: Contract) -> Broken:
    """The answers begin where their prompts end: no token of a prompt is supervised.

    That nothing is supervised after an answer, the stop-token rule sees. Earlier answers lie in the
    prompt of the last; of them the decoded text tells.
    """
    ids, mask = batch.input_ids, batch.mask
    place = ids.place()
    if contract.loss_on == "all":
        return ids.any(mask & (place == 0))
    prompt_length = np.repeat(batch.prompt_ids.lengths, ids.lengths)
    begins = ids.any(mask & (place == prompt_length))
    if contract.loss_on == "assistant_turns":
        return ~begins
    return ~begins | ids.any(mask & (place < prompt_length))


def _labels_are_inputs(batch: LabelledRows, contract: Contract) -> Broken:
    return batch.input_ids.any(batch.mask & (batch.labels != batch.input_ids.values))


def _in_vocabulary(batch: LabelledRows, contract: Contract) -> Broken:
    values = batch.input_ids.values
    return batch.input_ids.any((values < 0) | (values >= contract.vocabulary))


RULES: Mapping[str, Callable[[LabelledRows, Contract], Broken]] = {
    "some token supervised": _some_supervised,
    "stop token supervised": _stop_supervised,
    "at most one beginning-of-sequence token, as many as in the prompt": _one_bos,
    "generation prompt is a token prefix": _prompt_is_prefix,
    "supervised text decodes to the answer and its stop token": _decodes_to_answer,
    "nothing outside the answers supervised": _nothing_else_supervised,
    "labels equal the input ids": _labels_are_inputs,
    "token ids within the vocabulary": _in_vocabulary,
}


@dataclass(slots=True)
class ContractCheck:
    """Checks batch after batch and keeps, by rule, how many rows broke it and the first of them."""

    contract: Contract
    rows_checked: int = 0
    violations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    first_rows: dict[str, list[int]] = field(default_factory=lambda: {rule: [] for rule in RULES})

    def check(self, batch: LabelledRows) -> dict[str, list[int]]:
        """Check every rule on every row of a batch; gives the source rows that broke each rule."""
        found = {}
        for rule, broken in RULES.items():
            rows = [int(row) for row in batch.rows[broken(batch, self.contract)]]
            self.violations[rule] += len(rows)
            self.first_rows[rule] += rows[: SHOWN - len(self.first_rows[rule])]
            if rows:
                found[rule] = rows
        self.rows_checked += len(batch.rows)
        return found

    def results(self) -> tuple[CheckedRule, ...]:
        """What was checked, rule by rule."""
        return tuple(
            CheckedRule(rule=rule, rows_checked=self.rows_checked, violations=count)
            for rule, count in self.violations.items()
        )

    def raise_violations(self) -> None:
        """Raise DataError with every broken rule, its count and row numbers, if there is any."""
        broken = [rule for rule, count in self.violations.items() if count]
        if broken:
            head = f"label contract: broken by rows of {self.rows_checked:,} (numbers from 0):"
            raise DataError("\n".join([head, *(f"  {self._line(rule)}" for rule in broken)]))

    def _line(self, rule: str) -> str:
        count, shown = self.violations[rule], self.first_rows[rule]
        rows = ", ".join(map(str, shown)) + (", …" if count > len(shown) else "")
        return f"{rule}: {count:,} {'row' if count == 1 else 'rows'} ({rows})"


def check_rows(batches: Sequence[LabelledRows], contract: Contract) -> tuple[CheckedRule, ...]:
    """Check whole batches at once.

    Raises:
        DataError: a rule is broken.
    """
    check = ContractCheck(contract)
    for batch in batches:
        check.check(batch)
    check.raise_violations()
    return check.results()
