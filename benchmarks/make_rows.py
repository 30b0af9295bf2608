"""Alpaca rows in any number, of about 150 tokens: no two alike, and the same ones every time.

    python benchmarks/make_rows.py rows.jsonl --rows 1000000 --from code_alpaca_2k.json
    python benchmarks/make_rows.py rows.jsonl --append 10 --from code_alpaca_2k.json

The words, white space included, are walked through as they follow one another in the rows of
``--from`` (``.json`` or ``.jsonl`` with instruction, input and output, or question and answer): a
Markov chain of the first order for each of the three columns, so that lengths, code, line breaks
and the share of rare words are those of real rows while no two texts are the same. Copied whole
sentences would make millions of pairs that are half alike, which real rows are not. Without
``--from`` the words are invented.

One row in 200 repeats the prompt and answer of the row before it with one word of the instruction
exchanged: nearly the same, as happens in real data. Memory does not depend on the number of rows,
and the first rows of a longer file are those of a shorter one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Row = dict[str, str]

BLOCK = 10_000  # rows made at a time; what a row says depends on it
REPEATED = 1 / 200  # share of rows that nearly repeat the one before
WITH_INPUT = 0.4  # share of rows whose input is not empty
# Median length in words and the most that a text may have, by column.
LENGTHS = {"instruction": (20, 80), "input": (16, 80), "output": (44, 300)}
SPREAD = 0.5  # standard deviation of the logarithm of a length
SHORTEST = 8  # words; fewer would often be the same ones
APPENDED = 1_000_000_000  # number of the first block that --append writes
INVENTED_ROWS = 3000


@dataclass(frozen=True, slots=True)
class Chain:
    """Words as they follow one another in a text.

    ``successors[offsets[w] : offsets[w] + counts[w]]`` are the words that follow word ``w``, each
    as often as it does.
    """

    words: list[str]
    starts: Ids
    successors: Ids
    offsets: Ids
    counts: Ids

    def walk(self, random: np.random.Generator, rows: int, steps: int) -> Ids:
        """Ids of words, (rows, steps): each row begins as a text does."""
        path = np.empty((steps, rows), dtype=np.int64)
        state = self.starts[random.integers(len(self.starts), size=rows)]
        for step in range(steps):
            path[step] = state
            chosen = (random.random(rows) * self.counts[state]).astype(np.int64)
            state = self.successors[self.offsets[state] + chosen]
        return path.T

    def text(self, ids: Sequence[int]) -> str:
        """The words as a text, without the white space around it."""
        return "".join(map(self.words.__getitem__, ids)).strip()


def chain(texts: Sequence[str], between: str) -> Chain:
    """The chain of ``texts``, which follow one another with ``between`` before each."""
    found = [re.findall(r"\s*\S+", between + text) for text in texts if text.strip()]
    known: dict[str, int] = {}
    ids = [[known.setdefault(word, len(known)) for word in words] for words in found]
    followed_by: dict[int, list[int]] = defaultdict(list)
    line = [word for text in ids for word in text]
    for word, following in zip(line, [*line[1:], line[0]], strict=True):
        followed_by[word].append(following)
    counts = np.array([len(followed_by[word]) for word in range(len(known))])
    return Chain(
        words=list(known),
        starts=np.array([text[0] for text in ids]),
        successors=np.array([f for word in range(len(known)) for f in followed_by[word]]),
        offsets=np.cumsum(counts) - counts,
        counts=counts,
    )


def read_rows(path: Path) -> list[Row]:
    """The rows of a ``.json`` or ``.jsonl`` file, as instruction, input and output."""
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines())
    return [
        {
            "instruction": row["instruction"] if "instruction" in row else row["question"],
            "input": row.get("input", ""),
            "output": row["output"] if "output" in row else row["answer"],
        }
        for row in rows
    ]


def invented_rows() -> list[Row]:
    """Rows of invented words, the common ones far more often than the rare ones."""
    random = np.random.default_rng(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(random.choice(syllables, random.integers(1, 4))) for _ in range(20_000)]

    def text(length: int) -> str:
        ranks = np.minimum(random.zipf(1.2, length), len(words)) - 1
        return " ".join(words[rank] for rank in ranks).capitalize() + "."

    return [
        {"instruction": text(15), "input": text(12), "output": "\n".join(map(text, (20, 20)))}
        for _ in range(INVENTED_ROWS)
    ]


def made_rows(sources: Sequence[Row], seed: int, first_block: int = 0) -> Iterator[Row]:
    """Rows without end; the same for the same sources, seed and first block."""
    between = {"instruction": " ", "input": "\n", "output": "\n"}
    chains = {name: chain([row[name] for row in sources], between[name]) for name in LENGTHS}
    block = first_block
    while True:
        yield from _block(chains, np.random.default_rng([seed, block]))
        block += 1


def _block(chains: dict[str, Chain], random: np.random.Generator) -> Iterator[Row]:
    paths, lengths = {}, {}
    for name, (median, most) in LENGTHS.items():
        paths[name] = chains[name].walk(random, BLOCK, most)
        drawn = median * np.exp(SPREAD * random.standard_normal(BLOCK))
        lengths[name] = np.clip(drawn, SHORTEST, most).astype(np.int64)
    lengths["input"] *= random.random(BLOCK) < WITH_INPUT
    repeated = 1 + np.flatnonzero(random.random(BLOCK - 1) < REPEATED)
    for values in (*paths.values(), *lengths.values()):
        values[repeated] = values[repeated - 1]
    place = random.integers(lengths["instruction"][repeated])
    words = len(chains["instruction"].words)
    other = paths["instruction"][repeated, place] + random.integers(1, words, size=len(repeated))
    paths["instruction"][repeated, place] = other % words
    columns = [
        [chains[name].text(ids[:length]) for ids, length in zip(lists, lengths[name], strict=True)]
        for name, lists in ((name, path.tolist()) for name, path in paths.items())
    ]
    for texts in zip(*columns, strict=True):
        yield dict(zip(paths, texts, strict=True))


def write_rows(path: Path, rows: Iterator[Row], *, append: bool = False) -> None:
    """Write rows as JSON Lines, or add them to those that are there."""
    with path.open("a" if append else "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def source_rows(files: Sequence[Path]) -> list[Row]:
    """The rows of all files, or invented ones where there is no file."""
    return [row for file in files for row in read_rows(file)] or invented_rows()


def main() -> None:
    """Write or append the rows that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--append", type=int, metavar="N", help="add N rows to a file")
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sources = source_rows(options.sources)
    if options.append is not None:
        if not options.path.is_file():
            sys.exit(f"{options.path}: no such file to append to")
        rows = islice(made_rows(sources, options.seed, APPENDED), options.append)
        write_rows(options.path, rows, append=True)
    else:
        write_rows(options.path, islice(made_rows(sources, options.seed), options.rows))


if __name__ == "__main__":
    main()
