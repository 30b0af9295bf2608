"""What several tools made of the same rows: how many tokens, and whether they are the same ones.

    python benchmarks/prepared_tokens.py model-folder NAME=FILE,FILE… [NAME=FILE,…]

Reads Arrow streams (as ``datasets`` writes them) and proofbox's Parquet partitions. Prints JSON:
for each tool its rows, tokens and supervised tokens in all, and for each tool after the first how
the first 1,000 rows compare with the first tool's. Which row it is comes from the partitions'
column ``row``, or from the order in the files, which must then hold all rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMPARED = 1000
IGNORED = -100
Labelled = tuple[list[int], list[int]]


@dataclass(slots=True)
class Made:
    """What a tool made: counts, and token ids with labels of the first rows by their number."""

    rows: int = 0
    tokens: int = 0
    supervised: int = 0
    first: dict[int, Labelled] = field(default_factory=dict)


def batches(path: Path) -> Iterator[Any]:
    """The record batches of an Arrow stream or a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix == ".parquet":
        columns = ["row", "input_ids", "labels"]
        yield from parquet.ParquetFile(path).iter_batches(columns=columns)
        return
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        if "input_ids" in stream.schema.names:  # `datasets` stores lists of row numbers too
            yield from stream


def read_made(files: Sequence[Path]) -> Made:
    """Count what is in the files, and keep the first rows."""
    from pyarrow import compute

    made = Made()
    for batch in (batch for path in files for batch in batches(path)):
        labels = compute.list_flatten(batch.column("labels"))
        start = made.rows
        made.rows += len(batch)
        made.tokens += len(labels)
        made.supervised += compute.sum(compute.not_equal(labels, IGNORED)).as_py() or 0
        if "row" in batch.schema.names:
            numbers = batch.column("row").to_numpy()
        elif start < COMPARED:
            numbers = range(start, made.rows)
        else:
            continue
        for index, number in enumerate(numbers):
            if number < COMPARED:
                ids, marks = (batch.column(name)[index].as_py() for name in ("input_ids", "labels"))
                made.first[int(number)] = (ids, marks)
    return made


def compared(ours: Made, theirs: Made, line_feed: int) -> dict[str, int]:
    """How many of the first rows are the same, with and without the line feed after the end.

    ChatML writes a line feed after the token that ends an answer. Generation stops before it, so
    tools differ in whether it is there and whether it is learned.
    """
    counts = {"rows": 0, "same": 0, "same but for the last line feed": 0, "different": 0}
    for number, row in theirs.first.items():
        if number not in ours.first:
            continue
        counts["rows"] += 1
        mine = ours.first[number]
        if mine == row:
            counts["same"] += 1
        elif _without(mine, line_feed) == _without(row, line_feed):
            counts["same but for the last line feed"] += 1
        else:
            counts["different"] += 1
    return counts


def _without(row: Labelled, line_feed: int) -> Labelled:
    ids, labels = row
    return (ids[:-1], labels[:-1]) if ids[-1] == line_feed else row


def main() -> None:
    """Print what the tools on the command line made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("made", nargs="+", metavar="NAME=FILE,FILE…")
    options = parser.parse_args()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    (line_feed,) = tokenizer.encode("\n").ids
    tools = {}
    for argument in options.made:
        name, _, files = argument.partition("=")
        tools[name] = read_made([Path(file) for file in files.split(",")])
    first, *others = tools
    result = {
        name: {"rows": made.rows, "tokens": made.tokens, "supervised": made.supervised}
        for name, made in tools.items()
    }
    result |= {
        f"{name} and {first}": compared(tools[first], tools[name], line_feed) for name in others
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
