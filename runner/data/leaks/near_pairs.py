"""Pairs of nearly equal texts of two partitions, in time and memory that grow with the texts.

Candidates share a band of MinHash values; sketches sort out most of those that are not alike, and
the texts decide. Where many texts share a band (templated rows), a candidate must share two. Where
even so there are too many, each text is compared with some of the others only, and what was then
not found to be near is *open*: not known to be clean. Nothing that was not compared looks clean
but what shares no band (or, among templated rows, no two bands): see ``band_layout`` for how rare
that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runner.data.leaks.near_duplicates import agreement, least_agreement

# A bucket with more texts of either side than this is crowded, where the candidates of one band
# are more than can be looked at whatever their distribution.
BUCKET = 32
AFFORDABLE = 4_000_000
# In buckets that stay crowded, a text is tried against ``BUCKET`` others this many times.
TRIES = 8
# Pairs of texts compared before, for each text, one near text is enough; and until then so many.
FREE_COMPARISONS = 100_000
COMPARISONS = 20
_AT_ONCE = 1 << 20  # candidate pairs in memory
_TABLE_BITS = 22

Ids = NDArray[np.int64]  # of texts
Flags = NDArray[np.bool_]  # one for each text
Pairs = tuple[Ids, Ids]
AnyKeys = NDArray[np.uint32] | NDArray[np.uint64]
# Similarities of pairs of texts, by their ids.
Compare = Callable[[Ids, Ids], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BandedTexts:
    """Texts by their keys: ``band(i)`` gives one of each [texts], ``sketches(ids)`` [ids, n]."""

    band: Callable[[int], NDArray[np.uint32]]
    bands: int
    sketches: Callable[[Ids], NDArray[np.uint64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPairs:
    """Pairs found: ``first``, ``second`` and ``similarity`` [pairs].

    Shapes: the others [texts]. ``first_near`` is near a text of the second side, ``second_near``
    near a text of the first side that stays; ``first_open`` and ``second_open`` were not compared
    with all candidates, and not found to be near. ``complete``: no pair was left out for their
    number. ``candidates`` counts pairs that shared bands, ``compared`` those whose texts were read.
    """

    first: Ids
    second: Ids
    similarity: NDArray[np.float64]
    first_near: Flags
    second_near: Flags
    first_open: Flags
    second_open: Flags
    complete: bool
    candidates: int
    compared: int


def find_near_pairs(
    texts: BandedTexts,
    *,
    first: Flags,
    second: Flags,
    stays: Flags,
    threshold: float,
    compare: Compare,
) -> NearPairs:
    """Pairs of different texts, one of either side, that are nearly the same.

    Args:
        texts: All texts.
        first: Those with rows on the first side.
        second: Those with rows on the second.
        stays: Those whose rows on the first side are not dropped already.
        threshold: The similarity from which they are nearly the same.
        compare: Reads texts and gives the similarity of pairs.
    """
    search = _Search(
        texts=texts,
        stays=stays,
        threshold=threshold,
        compare=compare,
        first=_Side.of(len(first)),
        second=_Side.of(len(first)),
    )
    for band in range(texts.bands):
        search.by_band(band, np.flatnonzero(first), np.flatnonzero(second))
    return search.result()


@dataclass(slots=True, kw_only=True)
class _Side:
    """What is known of the texts of one side: flags and counts [texts]."""

    near: Flags
    open: Flags
    tries: NDArray[np.int8]
    comparisons: NDArray[np.int8]

    @classmethod
    def of(cls, texts: int) -> _Side:
        """Nothing is known yet."""
        return cls(
            near=np.zeros(texts, dtype=np.bool_),
            open=np.zeros(texts, dtype=np.bool_),
            tries=np.zeros(texts, dtype=np.int8),
            comparisons=np.zeros(texts, dtype=np.int8),
        )

    def try_again(self, texts: Ids) -> Flags:
        """Which of ``texts``, that are in crowded buckets, are worth another try; counts it."""
        self.open[texts] = True
        wanted = ~self.near[texts] & (self.tries[texts] < TRIES)
        self.tries[texts[wanted]] += 1
        return np.asarray(wanted)

    def one_each(self, texts: Ids) -> Ids:
        """Places of one pair of each text that is not settled; counts it.

        A text of which enough pairs were compared is open.
        """
        at = np.flatnonzero(~self.near[texts])
        tired = self.comparisons[texts[at]] >= COMPARISONS
        self.open[texts[at[tired]]] = True
        at = at[~tired]
        different, first = np.unique(texts[at], return_index=True)
        self.comparisons[different] += 1
        return np.asarray(at[first])


@dataclass(slots=True, kw_only=True)
class _Search:
    texts: BandedTexts
    stays: Flags
    threshold: float
    compare: Compare
    first: _Side
    second: _Side
    complete: bool = True
    candidates: int = 0
    compared: int = 0
    seen: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    found: list[tuple[NDArray[np.uint64], NDArray[np.float64]]] = field(default_factory=list)

    def by_band(self, band: int, first: Ids, second: Ids) -> None:
        """Compare all that share this band; in crowded buckets, that share a later one too."""
        keys = self.texts.band(band)
        buckets = _Buckets(keys[first], keys[second])
        self._take(buckets.sparse_pairs(), first, second)
        first, second = first[buckets.crowded_first()], second[buckets.crowded_second()]
        for other in range(band + 1, self.texts.bands):
            if self.first.near[first].all() and self.second.near[second].all():
                self.complete = self.complete and not len(first)
                return
            both = keys.astype(np.uint64) << np.uint64(32) | self.texts.band(other)
            self._by_two_bands(both, first, second)

    def _by_two_bands(self, keys: NDArray[np.uint64], first: Ids, second: Ids) -> None:
        buckets = _Buckets(keys[first], keys[second])
        self._take(buckets.sparse_pairs(), first, second)
        crowded = buckets.crowded_first(), buckets.crowded_second()
        if not len(crowded[0]):
            return
        self.complete = False
        wanted = np.zeros(len(first), dtype=np.bool_), np.zeros(len(second), dtype=np.bool_)
        wanted[0][crowded[0]] = self.first.try_again(first[crowded[0]])
        wanted[1][crowded[1]] = self.second.try_again(second[crowded[1]])
        self._take(buckets.some_pairs(*wanted), first, second)

    def _take(self, pairs: Iterator[Pairs], first: Ids, second: Ids) -> None:
        """Compare those candidates that are new, alike by their sketches, and still of use."""
        done = [self.seen]
        for at_first, at_second in pairs:
            a, b = first[at_first], second[at_second]
            self.candidates += len(a)
            shared = agreement(self.texts.sketches(a), self.texts.sketches(b))
            alike = (a != b) & (shared >= least_agreement(self.threshold))
            codes = _codes(a[alike], b[alike])
            codes = np.unique(codes[~_among(codes, self.seen)])
            done += self._compare_useful(codes)
        if len(done) > 1:
            self.seen = np.unique(np.concatenate(done))

    def _compare_useful(self, codes: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
        """Compare all while that is cheap; then only until both texts of each pair are settled.

        Yields the pairs that were compared.
        """
        room = max(0, FREE_COMPARISONS - self.compared)
        now, rest = codes[:room], codes[room:]
        if len(now):
            self._compare(now)
            yield now
        while len(rest):
            useful = self._useful(rest)
            self.complete = self.complete and bool(useful.all())
            rest = rest[useful]
            chosen = self._one_each(rest)
            now, rest = rest[chosen], rest[~chosen]
            if not len(now):
                self.complete = self.complete and not len(rest)
                return
            self._compare(now)
            yield now

    def _useful(self, codes: NDArray[np.uint64]) -> Flags:
        a, b = _pair(codes)
        return np.asarray(~(self.first.near[a] & self.second.near[b]))

    def _one_each(self, codes: NDArray[np.uint64]) -> Flags:
        """One pair of each text that is not settled and not open."""
        a, b = _pair(codes)
        chosen = np.zeros(len(codes), dtype=np.bool_)
        chosen[self.first.one_each(a)] = True
        chosen[self.second.one_each(b)] = True
        return chosen

    def _compare(self, codes: NDArray[np.uint64]) -> None:
        a, b = _pair(codes)
        similarity = self.compare(a, b)
        near = similarity >= self.threshold
        self.compared += len(codes)
        self.found.append((codes[near], similarity[near]))
        self.first.near[a[near]] = True
        self.second.near[b[near & self.stays[a]]] = True

    def result(self) -> NearPairs:
        codes = np.concatenate([np.zeros(0, dtype=np.uint64), *(c for c, _ in self.found)])
        similarity = np.concatenate([np.zeros(0), *(s for _, s in self.found)])
        codes, at = np.unique(codes, return_index=True)
        first, second = _pair(codes)
        return NearPairs(
            first=first,
            second=second,
            similarity=similarity[at],
            first_near=self.first.near,
            second_near=self.second.near,
            first_open=self.first.open & ~self.first.near,
            second_open=self.second.open & ~self.second.near,
            complete=self.complete,
            candidates=self.candidates,
            compared=self.compared,
        )


class _Buckets:
    """Texts of two sides by a key; places count within each side."""

    def __init__(self, first: AnyKeys, second: AnyKeys) -> None:
        """Sort both sides; only keys that both have make a bucket."""
        may_first, may_second = _may_match(first, second), _may_match(second, first)
        keys, at_first, of_first = _by_key(first[may_first])
        other_keys, at_second, of_second = _by_key(second[may_second])
        _, mine, theirs = np.intersect1d(keys, other_keys, return_indices=True, assume_unique=True)
        self._places = may_first[at_first], may_second[at_second]
        self._starts = of_first[mine], of_second[theirs]
        self._sizes = of_first[mine + 1] - of_first[mine], of_second[theirs + 1] - of_second[theirs]
        self._crowded = _too_many(self._sizes[0], self._sizes[1])

    def sparse_pairs(self) -> Iterator[Pairs]:
        """All pairs of the buckets that are not crowded."""
        for bucket, within in _numbered(self._sizes[0] * self._sizes[1] * ~self._crowded):
            one, other = np.divmod(within, self._sizes[1][bucket])
            yield self._at(0, bucket, one), self._at(1, bucket, other)

    def some_pairs(self, first: Flags, second: Flags) -> Iterator[Pairs]:
        """In crowded buckets, each flagged text of either side with ``BUCKET`` of the other."""
        for near, far, wanted in ((0, 1, first), (1, 0, second)):
            for bucket, one in self._wanted(near, wanted):
                spread = one * self._sizes[far][bucket] // self._sizes[near][bucket]
                step = np.arange(len(one)) % BUCKET
                place = self._at(near, bucket, one)
                other = self._at(far, bucket, (spread + step) % self._sizes[far][bucket])
                yield (place, other) if near == 0 else (other, place)

    def _wanted(self, side: int, wanted: Flags) -> Iterator[Pairs]:
        """Bucket and number of each flagged text in crowded buckets, ``BUCKET`` times."""
        portion = max(1, _AT_ONCE // BUCKET)
        for bucket, one in _numbered(self._sizes[side] * self._crowded):
            at = np.flatnonzero(wanted[self._at(side, bucket, one)])
            for low in range(0, len(at), portion):
                several = np.repeat(at[low : low + portion], BUCKET)
                yield bucket[several], one[several]

    def crowded_first(self) -> Ids:
        """Places of the first side's texts that are in crowded buckets."""
        return self._in_crowded(0)

    def crowded_second(self) -> Ids:
        """Places of the second side's texts that are in crowded buckets."""
        return self._in_crowded(1)

    def _in_crowded(self, side: int) -> Ids:
        found = [
            self._at(side, bucket, within)
            for bucket, within in _numbered(self._sizes[side] * self._crowded)
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *found])

    def _at(self, side: int, bucket: Ids, number: Ids) -> Ids:
        return np.asarray(self._places[side][self._starts[side][bucket] + number])


def _too_many(first: Ids, second: Ids) -> Flags:
    """Which buckets have too many pairs, where all have more than can be afforded."""
    order = np.argsort(first * second, kind="stable")
    beyond = np.empty(len(order), dtype=np.bool_)
    beyond[order] = np.cumsum((first * second)[order]) > AFFORDABLE
    return np.asarray(beyond & (first > BUCKET) & (second > BUCKET))


def _may_match(keys: AnyKeys, others: AnyKeys) -> Ids:
    """Places of keys that may be among others, by a table of their hashes: most are not."""
    table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
    table[_hashes(others)] = True
    return np.flatnonzero(table[_hashes(keys)])


def _hashes(keys: AnyKeys) -> NDArray[np.uint32]:
    mixed = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing
    mixed >>= np.uint64(64 - _TABLE_BITS)
    return mixed.astype(np.uint32)


def _by_key(keys: AnyKeys) -> tuple[AnyKeys, Ids, Ids]:
    """Different keys, the places sorted by key, and where each key's begin, with the end."""
    places = np.argsort(keys, kind="stable")
    ordered = keys[places]
    begins = np.ones(len(ordered), dtype=np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(begins)
    return ordered[starts], places, np.append(starts, len(ordered))


def _numbered(sizes: Ids) -> Iterator[Pairs]:
    """For each of ``sizes[i]`` things of bucket i: i, and its number in it; in portions."""
    ends = np.cumsum(sizes)
    for low in range(0, int(ends[-1]) if len(ends) else 0, _AT_ONCE):
        number = np.arange(low, min(low + _AT_ONCE, int(ends[-1])))
        bucket = np.searchsorted(ends, number, side="right")
        yield bucket, number - (ends - sizes)[bucket]


def _codes(a: Ids, b: Ids) -> NDArray[np.uint64]:
    """Pairs as one number each."""
    return a.astype(np.uint64) << np.uint64(32) | b.astype(np.uint64)


def _pair(codes: NDArray[np.uint64]) -> Pairs:
    return (
        (codes >> np.uint64(32)).astype(np.int64),
        (codes & np.uint64(0xFFFFFFFF)).astype(np.int64),
    )


def _among(codes: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> Flags:
    """Which codes are among the sorted others."""
    if not len(ordered):
        return np.zeros(len(codes), dtype=np.bool_)
    at = np.minimum(np.searchsorted(ordered, codes), len(ordered) - 1)
    return np.asarray(ordered[at] == codes)
