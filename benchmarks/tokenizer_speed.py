"""What the tokenizer alone takes for the texts of all rows: the limit of every preparation.

    RAYON_NUM_THREADS=1 python benchmarks/tokenizer_speed.py rows.jsonl model-folder

Each row's text is encoded once, in batches of 1,000, in as many threads as RAYON_NUM_THREADS says.
Only the encoding is timed, not the reading, and not what Python does with the result. Prints the
seconds with character offsets (``encode_batch``) and without (``encode_batch_fast``), and tokens.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

BATCH = 1000


def texts(path: Path) -> Iterator[str]:
    """Each row as the ChatML template renders it."""
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            user = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
            yield (
                f"<|im_start|>user\n{user}<|im_end|>\n"
                f"<|im_start|>assistant\n{row['output']}<|im_end|>\n"
            )


def main() -> None:
    """Encode every row, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    seconds = {"encode_batch": 0.0, "encode_batch_fast": 0.0}
    rows = tokens = 0
    rest = texts(options.rows)
    while batch := list(islice(rest, BATCH)):
        rows += len(batch)
        for name in seconds:
            started = time.perf_counter()
            encodings = getattr(tokenizer, name)(batch, add_special_tokens=False)
            seconds[name] += time.perf_counter() - started
        tokens += sum(map(len, encodings))
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    print(json.dumps({"rows": rows, "tokens": tokens, "seconds": rounded}))


if __name__ == "__main__":
    main()
