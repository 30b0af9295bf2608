"""Rows of different partitions that say the same: found, counted, and what is done about them.

Rows are compared by prompt (in the same context: system message, tools, tool calls) and by answer,
each with each between train, validation and test, and given prompts with train. Equal texts are
grouped (``text_groups``), nearly equal ones are searched for among the groups (``near_pairs``).
Both take time and memory that grow with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from runner.data.leaks.leak_keys import KeyFiles
from runner.data.leaks.leak_report import ComparedBy, LeakCount, LeakedKind, LeakKind, LeakReport
from runner.data.leaks.leak_texts import Prompt, RowTexts, Texts
from runner.data.leaks.near_duplicates import Fingerprints, fingerprints
from runner.data.leaks.near_pairs import BandedTexts, NearPairs, find_near_pairs
from runner.data.leaks.text_groups import TextGroups, group_texts
from runner.data.partition import SPLITS
from runner.recipe import Leaks

LISTED = 10_000  # pairs with their texts
_LISTED_OF_GROUP = 20  # pairs of one text that many rows have
_SHOWN = 1_000  # characters of a listed text
TRAIN = SPLITS.index("train")
_LEAKED: tuple[LeakedKind, ...] = ("unsettled", "near", "exact")  # the gravest last
_BY: tuple[ComparedBy, ...] = get_args(ComparedBy)

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakSide:
    """One row of a pair: its number (of a given prompt, its place in its set) and its text."""

    partition: str
    row: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakPair:
    """Two rows that say the same."""

    kind: LeakKind
    by: ComparedBy
    similarity: float
    first: LeakSide
    second: LeakSide


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakedRow:
    """A held-out row that a row still in train equals or is near to."""

    partition: str
    row: int
    kind: LeakedKind


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLeaks:
    """What was found: ``dropped`` [rows] are numbers of train rows that the recipe wants out.

    ``pairs`` are the most similar ones, in that order.
    """

    dropped: NDArray[np.int64]
    leaked: tuple[LeakedRow, ...]
    pairs: tuple[LeakPair, ...]
    report: LeakReport


class LeakFinder:
    """Takes the keys of rows batch by batch, then finds all leaks among them."""

    def __init__(self, leaks: Leaks, folder: Path) -> None:
        """Begin with no rows; keys are kept below ``folder`` until `find` is done."""
        self._leaks = leaks
        self._files = KeyFiles(folder / ".leak-keys")
        self._files.remove()  # an earlier finder may have been stopped
        self._numbers: list[NDArray[np.int32]] = []
        self._codes: list[NDArray[np.int8]] = []

    def add(self, rows: NDArray[np.int64], codes: NDArray[np.int8], keys: Fingerprints) -> None:
        """Take rows.

        Args:
            rows: Their numbers [rows].
            codes: Their partitions, as places in ``SPLITS`` [rows].
            keys: What `fingerprints` made of them.
        """
        self._files.append(keys)
        self._numbers.append(np.array(rows, dtype=np.int32))
        self._codes.append(np.array(codes, dtype=np.int8))

    def find(
        self,
        texts: Texts,
        *,
        extra: Mapping[str, Sequence[Prompt]] | None = None,
        judged: bool = False,
    ) -> FoundLeaks:
        """Find all leaks among the rows taken, and forget them.

        Args:
            texts: Gives question and answer of rows by their numbers, which are sorted.
            extra: Sets of prompts by name, which are compared with those of train.
            judged: Whether figures are computed on them: the policies then act on them as on
                held-out rows. Else they are only listed.
        """
        try:
            return self._finding(texts, extra or {}, judged=judged).found()
        finally:
            self._files.remove()

    def _finding(
        self, texts: Texts, extra: Mapping[str, Sequence[Prompt]], *, judged: bool
    ) -> _Finding:
        given = [prompt for several in extra.values() for prompt in several]
        prompts, contexts = [prompt.text for prompt in given], [prompt.context for prompt in given]
        mean_length = self._files.characters / max(1, self._files.rows)
        self._files.append(fingerprints(prompts, [""] * len(prompts), contexts, self._leaks))
        for place, several in enumerate(extra.values(), start=len(SPLITS)):
            self._numbers.append(np.arange(len(several), dtype=np.int32))
            self._codes.append(np.full(len(several), place, dtype=np.int8))
        numbers = np.concatenate([np.zeros(0, dtype=np.int32), *self._numbers])
        codes = np.concatenate([np.zeros(0, dtype=np.int8), *self._codes])
        self._numbers, self._codes = [], []
        rows = numbers[: len(numbers) - len(prompts)]
        return _Finding(
            leaks=self._leaks,
            files=self._files,
            partitions=(*SPLITS, *extra),
            held_out=len(SPLITS) + len(extra) if judged else len(SPLITS),
            numbers=numbers,
            codes=codes,
            texts=RowTexts(texts=texts, numbers=rows, extra=prompts, mean_length=mean_length),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Relation:
    """Two partitions, as places in the list of them, compared by one text.

    ``exact`` and ``near`` say what is done about train rows, or that they are only listed.
    """

    by: ComparedBy
    first: int
    second: int
    exact: str
    near: str

    def drops(self, kind: LeakKind) -> bool:
        """Whether train rows are dropped; of those that are an error, preparing keeps none."""
        return (self.exact if kind == "exact" else self.near) in {"drop_from_train", "error"}

    def marks(self, kind: LeakKind) -> bool:
        """Whether held-out rows that such train rows give away are marked."""
        return (self.exact if kind == "exact" else self.near) != "listed"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _Listed:
    """A pair of places to be listed, the most similar first, equal before nearly equal."""

    distance: float
    kind: LeakKind
    by: ComparedBy
    sides: tuple[int, int]
    places: tuple[int, int]


@dataclass(slots=True, kw_only=True)
class _Finding:
    """All rows and given prompts, by place: ``numbers`` and ``codes`` [places].

    Figures are computed on partitions whose places are below ``held_out``, but for train.
    """

    leaks: Leaks
    files: KeyFiles
    partitions: tuple[str, ...]
    held_out: int
    numbers: NDArray[np.int32]
    codes: NDArray[np.int8]
    texts: RowTexts
    counts: list[LeakCount] = field(default_factory=list)
    listed: list[_Listed] = field(default_factory=list)
    dropped: Flags = field(init=False)
    unsettled: Flags = field(init=False)
    leaked: NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is found yet; ``leaked`` [places] are places in ``_LEAKED``, or -1."""
        self.dropped = np.zeros(len(self.codes), dtype=np.bool_)
        self.unsettled = np.zeros(len(self.codes), dtype=np.bool_)
        self.leaked = np.full(len(self.codes), -1, dtype=np.int8)

    def found(self) -> FoundLeaks:
        """Everything, in an order in which what is dropped is known before what leaks."""
        for by in _BY:
            self._find_exact(self._groups(by), by)
        if self.leaks.near != "ignore":
            for by in _BY:
                self._find_near(self._groups(by), by)
        if self.leaks.exact == "warn":
            for by in self.leaks.by:
                self._mark_exact(self._groups(by), by)
        pairs = self._pairs()
        return FoundLeaks(
            dropped=np.sort(self.numbers[self.dropped]).astype(np.int64),
            leaked=tuple(self._leaked_rows()),
            pairs=pairs,
            report=self._report(len(pairs)),
        )

    def _groups(self, by: ComparedBy) -> TextGroups:
        return group_texts(self.files.exact(by), self.codes, len(self.partitions))

    def _relations(self, by: ComparedBy) -> list[_Relation]:
        """Each pair of partitions that have rows; given prompts are compared by prompt."""
        acts = by in self.leaks.by
        there = set(np.unique(self.codes).tolist())
        pairs = [(0, 1), (0, 2), (1, 2)]
        if by == "prompt":
            pairs += [(TRAIN, extra) for extra in range(len(SPLITS), len(self.partitions))]
        return [
            _Relation(
                by=by,
                first=first,
                second=second,
                exact=self.leaks.exact if acts and self._judged(first, second) else "listed",
                near=self.leaks.near if acts and self._judged(first, second) else "listed",
            )
            for first, second in pairs
            if {first, second} <= there
        ]

    def _judged(self, first: int, second: int) -> bool:
        """Whether these partitions are train and one that figures are computed on."""
        return first == TRAIN and second < self.held_out

    # Equal texts

    def _find_exact(self, groups: TextGroups, by: ComparedBy) -> None:
        for relation in self._relations(by):
            self._count_exact(groups, relation)

    def _count_exact(self, groups: TextGroups, relation: _Relation) -> None:
        first, second = (
            groups.counts[:, side].astype(np.int64) for side in (relation.first, relation.second)
        )
        both = (first > 0) & (second > 0)
        self._count("exact", relation, int((first * second).sum()), groups, (both, both))
        for group in islice(np.flatnonzero(both), LISTED):
            sides = (groups.members(int(group), s) for s in (relation.first, relation.second))
            for pair in islice(product(*(s.tolist() for s in sides)), _LISTED_OF_GROUP):
                self._list("exact", relation, 1.0, pair)
        self._cut_list()
        if relation.drops("exact"):
            self.dropped[groups.rows_of(both, TRAIN, self.codes)] = True

    def _mark_exact(self, groups: TextGroups, by: ComparedBy) -> None:
        """Mark held-out rows that equal rows that stayed in train."""
        stays = groups.totals((self.codes == TRAIN) & ~self.dropped) > 0
        for relation in self._relations(by):
            if relation.marks("exact"):
                self._mark(groups.rows_of(stays, relation.second, self.codes), "exact")

    # Nearly equal texts

    def _find_near(self, groups: TextGroups, by: ComparedBy) -> None:
        if not len(groups):
            return
        first_places, sketches = groups.first_places, self.files.sketches(by)
        texts = BandedTexts(
            band=lambda band: self.files.band(by, band)[first_places],
            bands=self.files.bands,
            sketches=lambda ids: sketches[first_places[ids]],
        )
        for relation in self._relations(by):
            stays = groups.totals((self.codes == relation.first) & ~self.dropped) > 0
            near = find_near_pairs(
                texts,
                first=groups.counts[:, relation.first] > 0,
                second=groups.counts[:, relation.second] > 0,
                # What a policy on near duplicates drops is dropped for being near.
                stays=stays if relation.near == "warn" else np.ones_like(stays),
                threshold=float(self.leaks.threshold),
                compare=partial(self._similarity, first_places, by),
            )
            self._take_near(groups, relation, near)

    def _similarity(
        self, places: NDArray[np.int32], by: ComparedBy, a: NDArray[np.int64], b: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return self.texts.similarity(places[a], places[b], by)

    def _take_near(self, groups: TextGroups, relation: _Relation, near: NearPairs) -> None:
        first = groups.counts[near.first, relation.first].astype(np.int64)
        pairs = int((first * groups.counts[near.second, relation.second]).sum())
        concerned = _flags(near.first, len(groups)), _flags(near.second, len(groups))
        self._count("near", relation, pairs, groups, concerned, at_least=not near.complete)
        for at in np.argsort(-near.similarity, kind="stable")[:LISTED].tolist():
            a = groups.members(int(near.first[at]), relation.first)[0]
            b = groups.members(int(near.second[at]), relation.second)[0]
            self._list("near", relation, float(near.similarity[at]), (int(a), int(b)))
        self._cut_list()
        if relation.drops("near"):
            gone = groups.rows_of(near.first_near, TRAIN, self.codes)
            unsettled = groups.rows_of(near.first_open, TRAIN, self.codes)
            self.dropped[gone] = self.dropped[unsettled] = True
            self.unsettled[unsettled] = True
        elif relation.marks("near"):
            self._mark(groups.rows_of(near.second_near, relation.second, self.codes), "near")
            unsettled = groups.rows_of(near.second_open, relation.second, self.codes)
            self._mark(unsettled, "unsettled")

    def _mark(self, places: NDArray[np.int32], kind: LeakedKind) -> None:
        self.leaked[places] = np.maximum(self.leaked[places], _LEAKED.index(kind))

    # What is told

    def _count(
        self,
        kind: LeakKind,
        relation: _Relation,
        pairs: int,
        groups: TextGroups,
        concerned: tuple[Flags, Flags],
        *,
        at_least: bool = False,
    ) -> None:
        self.counts.append(
            LeakCount(
                kind=kind,
                by=relation.by,
                first=self.partitions[relation.first],
                second=self.partitions[relation.second],
                pairs=pairs,
                first_rows=int(groups.counts[concerned[0], relation.first].sum()),
                second_rows=int(groups.counts[concerned[1], relation.second].sum()),
                policy=relation.exact if kind == "exact" else relation.near,
                at_least=at_least,
            )
        )

    def _list(
        self, kind: LeakKind, relation: _Relation, similarity: float, places: tuple[int, ...]
    ) -> None:
        self.listed.append(
            _Listed(
                distance=1.0 - similarity,
                kind=kind,
                by=relation.by,
                sides=(relation.first, relation.second),
                places=(places[0], places[1]),
            )
        )

    def _cut_list(self) -> None:
        """Keep the most similar; of equal ones, those that were found first."""
        self.listed.sort(key=lambda pair: (pair.distance, pair.kind))
        del self.listed[LISTED:]

    def _pairs(self) -> tuple[LeakPair, ...]:
        texts: dict[ComparedBy, Mapping[int, str]] = {}
        for by in _BY:
            places = [place for pair in self.listed if pair.by == by for place in pair.places]
            texts[by] = self.texts.beginnings(np.array(places, dtype=np.int32), by, _SHOWN)
        return tuple(
            LeakPair(
                kind=pair.kind,
                by=pair.by,
                similarity=1.0 - pair.distance,
                first=self._side(pair, 0, texts[pair.by]),
                second=self._side(pair, 1, texts[pair.by]),
            )
            for pair in self.listed
        )

    def _side(self, pair: _Listed, side: Literal[0, 1], texts: Mapping[int, str]) -> LeakSide:
        place = pair.places[side]
        return LeakSide(
            partition=self.partitions[pair.sides[side]],
            row=int(self.numbers[place]),
            text=texts[place],
        )

    def _leaked_rows(self) -> Iterator[LeakedRow]:
        places = np.flatnonzero(self.leaked >= 0)
        for place in places[np.lexsort((self.numbers[places], self.codes[places]))].tolist():
            yield LeakedRow(
                partition=self.partitions[self.codes[place]],
                row=int(self.numbers[place]),
                kind=_LEAKED[self.leaked[place]],
            )

    def _report(self, listed: int) -> LeakReport:
        unsettled = self.unsettled | (self.leaked == _LEAKED.index("unsettled"))
        return LeakReport(
            counts=tuple(self.counts),
            compared=self._by_partition(np.ones_like(self.dropped)),
            dropped=int(self.dropped.sum()),
            listed=listed,
            leaked=self._by_partition(self.leaked >= 0),
            unsettled=self._by_partition(unsettled),
        )

    def _by_partition(self, flags: Flags) -> dict[str, int]:
        """Flagged rows of each partition that has some."""
        counts = np.bincount(self.codes[flags], minlength=len(self.partitions)).tolist()
        return {name: n for name, n in zip(self.partitions, counts, strict=True) if n}


def _flags(ids: NDArray[np.int64], size: int) -> Flags:
    flags = np.zeros(size, dtype=np.bool_)
    flags[ids] = True
    return flags
