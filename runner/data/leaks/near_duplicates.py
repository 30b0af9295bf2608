"""Keys by which equal and nearly equal texts are found without comparing every pair.

Equal texts share a 128-bit digest. Nearly equal ones share a band of MinHash values (Broder 1997;
bands: Leskovec, Rajaraman and Ullman, *Mining of Massive Datasets*, section 3.4). What shares a
band is only a candidate: whether two texts are nearly the same, `jaccard` says.

Prompts are the same only in the same context (system message, tools, tool calls). Its digest is the
key of the text's digest, and is XORed on bands and sketches: in one context that changes nothing of
what they share. In two contexts, texts share a band once in 2^32 times, and then a quarter of their
sketches, which is far too little to be looked at.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.recipe import Leaks

GRAM = 5  # characters
HASHES = 128  # MinHash values of a text; a power of two, which rensa is fastest with
# A pair that is exactly as similar as the threshold shares a band with this probability.
RECALL = 0.99
# Texts whose sketches agree by so many standard deviations less than expected are others.
_SKETCH_DEVIATIONS = 3.5
_SKETCH_BITS = 2  # of each MinHash value (b-bit MinHash: Li and König 2010, arXiv 0910.3349)
SKETCH = HASHES * _SKETCH_BITS // 64  # numbers of 64 bits
_SEED = 42
# It gives lists of numbers: those of a few texts at a time stay near the processor, and packing
# them is faster than making an array of them.
_AT_ONCE = 200
_PACKED = struct.Struct(f"<{HASHES}I")

# Unicode's default-ignorable characters, but for those of the planes beyond the first: soft
# hyphen, joiners, direction marks, variation selectors, byte-order mark. They show nothing.
_IGNORED = re.compile("[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
                      "\ufe00-\ufe0f\ufeff]")  # fmt: skip

# Odd constants from the digits of the golden ratio and of SHA-256, one for each place of a gram.
_PLACES = np.array(
    [0x9E3779B97F4A7C15, 0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B,
     0xA54FF53A5F1D36F1], dtype=np.uint64,
)  # fmt: skip
_MIX = np.uint64(0xBF58476D1CE4E5B9)  # splitmix64

Keys = NDArray[np.uint64]
Bands = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextKeys:
    """Keys of one text of each row.

    Shapes: ``exact`` [rows, 2], the digest of the normalized text, zero where there is no text to
    compare; ``bands`` [rows, bands] and ``sketches`` [rows, SKETCH] of its MinHash values, of no
    width where near duplicates are not looked for.
    """

    exact: Keys
    bands: Bands
    sketches: Keys

    def take(self, rows: NDArray[np.bool_]) -> TextKeys:
        """Keys of the flagged rows."""
        return TextKeys(
            exact=self.exact[rows], bands=self.bands[rows], sketches=self.sketches[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """Keys of the prompts and answers of a batch of rows; ``lengths`` [rows] in characters."""

    prompt: TextKeys
    answer: TextKeys
    lengths: NDArray[np.int64]

    @property
    def characters(self) -> int:
        """The characters of all texts."""
        return int(self.lengths.sum())

    def take(self, rows: NDArray[np.bool_]) -> Fingerprints:
        """Keys of the flagged rows."""
        return Fingerprints(
            prompt=self.prompt.take(rows),
            answer=self.answer.take(rows),
            lengths=self.lengths[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BandLayout:
    """``bands`` of ``hashes`` MinHash values each."""

    bands: int
    hashes: int


@cache
def band_layout(threshold: float) -> BandLayout:
    """The longest bands, and so the fewest candidates, with which ``RECALL`` is reached.

    A band of r values is shared with probability t^r at similarity t, one of b bands with
    1 - (1 - t^r)^b.
    """
    for hashes in range(HASHES, 1, -1):
        shared = threshold**hashes
        bands = math.ceil(math.log(1 - RECALL) / math.log1p(-shared))
        if bands * hashes <= HASHES:
            return BandLayout(bands=bands, hashes=hashes)
    raise ValueError(f"no bands of {HASHES} values find pairs of similarity {threshold}")


def least_agreement(threshold: float) -> int:
    """How many of the ``HASHES`` parts of their sketches nearly equal texts share at least.

    A part is shared where the MinHash values are equal, and by chance in some other cases.
    """
    share = threshold + (1 - threshold) / (1 << _SKETCH_BITS)
    deviation = math.sqrt(HASHES * share * (1 - share))
    return math.floor(HASHES * share - _SKETCH_DEVIATIONS * deviation)


def agreement(first: Keys, second: Keys) -> NDArray[np.int64]:
    """How many parts of their sketches [pairs, SKETCH] each pair shares: [pairs]."""
    differing = first ^ second
    differing |= differing >> np.uint64(1)
    differing &= np.uint64(0x5555555555555555)  # one bit a part
    return np.asarray(HASHES - np.bitwise_count(differing).sum(axis=1, dtype=np.int64))


def normalized(text: str) -> str:
    """``text`` as it is compared: NFKC, without invisible characters, white space collapsed.

    Case is kept: ``n`` and ``N`` are two names in a program. Near duplicates ignore it.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _IGNORED.sub("", text))
    return " ".join(text.split())


def compared_texts(question: str, answer: str) -> tuple[str, str]:
    """Prompt and answer of a row as they are compared.

    A row without a prompt (format text) is known by the whole of its text.
    """
    whole = normalized(answer)
    return normalized(question) or whole, whole


def fingerprints(
    questions: Sequence[str], answers: Sequence[str], contexts: Sequence[str], leaks: Leaks
) -> Fingerprints:
    """The keys of a batch of rows.

    Args:
        questions: Their prompts.
        answers: Their answers; those of fewer than ``leaks.shortest_answer`` characters get none.
        contexts: What the prompts are asked in, as `Conversation.context` gives it.
        leaks: What the recipe looks for.
    """
    both = [compared_texts(q, a) for q, a in zip(questions, answers, strict=True)]
    prompts = [prompt for prompt, _ in both]
    long_answers = [answer if len(answer) >= leaks.shortest_answer else "" for _, answer in both]
    layout = None if leaks.near == "ignore" else band_layout(float(leaks.threshold))
    return Fingerprints(
        prompt=_in_contexts(_text_keys(prompts, layout, contexts), contexts),
        answer=_text_keys(long_answers, layout, [""] * len(long_answers)),
        lengths=np.array([len(p) + len(a) for p, a in both], dtype=np.int64),
    )


def jaccard(first: Keys, second: Keys) -> float:
    """Jaccard similarity of two sets of grams, each sorted and without repeats."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / (len(first) + len(second) - common)


def gram_sets(texts: Sequence[str]) -> list[Keys]:
    """The set of character grams of each normalized text, in lower case, as sorted hashes."""
    hashes, offsets = _gram_hashes(texts)
    return [np.unique(hashes[a:b]) for a, b in pairwise(offsets)]


@lru_cache(maxsize=1024)  # most rows of a source have the same context
def _context_digest(context: str) -> bytes:
    """Digest [32 bytes] of a context whose texts are normalized; none of no context."""
    if not context:
        return b""
    text = json.dumps(_normalized_texts(json.loads(context)), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=32).digest()


def _normalized_texts(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return normalized(value)
    if isinstance(value, list):
        return [_normalized_texts(item) for item in value]
    if isinstance(value, dict):
        return {key: _normalized_texts(item) for key, item in value.items()}
    return value


def _in_contexts(keys: TextKeys, contexts: Sequence[str]) -> TextKeys:
    """``keys`` with bands and sketches that only texts of the same context share."""
    some = [place for place, context in enumerate(contexts) if context]
    if some and keys.bands.shape[1]:
        joined = b"".join(_context_digest(contexts[place]) for place in some)
        digests = np.frombuffer(joined, dtype="<u8").astype(np.uint64).reshape(-1, SKETCH)
        keys.bands[some] ^= (digests[:, :1] >> np.uint64(32)).astype(np.uint32)
        keys.sketches[some] ^= digests
    return keys


def _text_keys(
    texts: Sequence[str], layout: BandLayout | None, contexts: Sequence[str]
) -> TextKeys:
    exact = b"".join(
        _digest(text, context) if text else bytes(16)
        for text, context in zip(texts, contexts, strict=True)
    )
    bands = np.zeros((len(texts), layout.bands if layout else 0), dtype=np.uint32)
    sketches = np.zeros((len(texts), SKETCH if layout else 0), dtype=np.uint64)
    some = [place for place, text in enumerate(texts) if text]
    if layout and some:
        values = _min_hashes([texts[place] for place in some])
        bands[some] = _band_keys(values, layout)
        sketches[some] = _sketches(values)
    keys = np.frombuffer(exact, dtype="<u8").astype(np.uint64).reshape(-1, 2)
    return TextKeys(exact=keys, bands=bands, sketches=sketches)


def _digest(text: str, context: str) -> bytes:
    written = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(written, digest_size=16, key=_context_digest(context)).digest()


def _gram_hashes(texts: Sequence[str]) -> tuple[Keys, Keys]:
    """Hashes of all grams of all texts, and where each text's begin: [grams], [texts + 1].

    A text shorter than a gram is one gram, filled up.
    """
    folded = [text.casefold().ljust(GRAM, "\0") for text in texts]
    lengths = np.array([len(text) for text in folded], dtype=np.int64)
    code_points = "".join(folded).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(code_points, dtype="<u4").astype(np.uint64)
    windows = max(0, len(points) - GRAM + 1)
    hashes = points[:windows] * _PLACES[0]
    for place in range(1, GRAM):
        hashes += points[place : place + windows] * _PLACES[place]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(29)
    within = np.ones(len(points), dtype=np.bool_)
    within[(np.cumsum(lengths)[:, None] - np.arange(1, GRAM)).ravel()] = False  # reach beyond
    offsets = np.append(0, np.cumsum(lengths - GRAM + 1)).astype(np.uint64)
    return hashes[within[:windows]], offsets


def _min_hashes(texts: Sequence[str]) -> Bands:
    """MinHash values of each text: [texts, HASHES]."""
    from rensa import RMinHash

    packed = []
    for low in range(0, len(texts), _AT_ONCE):
        hashes, offsets = _gram_hashes(texts[low : low + _AT_ONCE])
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, HASHES, _SEED)
        packed += [_PACKED.pack(*row) for row in matrix.to_rows()]
    return np.frombuffer(b"".join(packed), dtype="<u4").astype(np.uint32).reshape(-1, HASHES)


def _band_keys(values: Bands, layout: BandLayout) -> Bands:
    """One key for the values of each band: [texts, bands]."""
    used = values[:, : layout.bands * layout.hashes].astype(np.uint64)
    keys: Keys = np.full((len(values), layout.bands), _PLACES[1], dtype=np.uint64)
    for place in range(layout.hashes):
        keys = (keys ^ used[:, place :: layout.hashes]) * _MIX
        keys ^= keys >> np.uint64(31)
    return (keys >> np.uint64(32)).astype(np.uint32)


def _sketches(values: Bands) -> Keys:
    """Two bits of each MinHash value: [texts, SKETCH]."""
    bits = (values * np.uint32(0x9E3779B1)) >> np.uint32(32 - _SKETCH_BITS)
    parts = bits.astype(np.uint8).reshape(len(values), -1, 4)
    packed = parts[..., 0] | parts[..., 1] << 2 | parts[..., 2] << 4 | parts[..., 3] << 6
    return np.ascontiguousarray(packed).view(np.uint64)
