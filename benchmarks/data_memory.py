"""Two million rows prepared in little memory, used again at once, and added to without moving any.

    python benchmarks/data_memory.py --from code_alpaca_2k.json [--rows 2000000]

The stage of `proofbox run` that prepares data runs as a command of its own (prepare_with_proofbox),
under the kernel's accounting as ``/usr/bin/time -v`` has it: first with an empty cache; then again,
answered by the cache; then, with 10 rows added to the file, anew. Partitions are made by hash, and
afterwards every row that was in one before must be in the same one.
Writes benchmarks/data_memory.json; exits with 1 if the memory of the largest process reaches 2 GB,
the second use takes a second or more, or a row has moved or is gone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_preparation import HERE, Place, environment, machine, make_files, proofbox_command
from measured_process import measure

MOST_MEMORY = 2_000_000_000  # bytes
MOST_SECONDS = 1.0  # for the second use: finding the source and the prepared data
ADDED = 10
# Run in a process of its own, which may be large: prints where the old rows went.
COMPARE = """
import json, sys
from pyarrow import parquet

def ids(file):
    return set(parquet.read_table(file, columns=["example_id"])["example_id"].to_pylist())

before, after = map(json.loads, sys.argv[1:])
count = {"rows": 0, "stayed": 0, "moved": 0, "gone": 0, "added": 0}
new = {name: ids(file) for name, file in after.items()}
for name, file in before.items():
    old = ids(file)
    stayed = old & new.get(name, set())
    elsewhere = set().union(*(old & members for other, members in new.items() if other != name))
    count["rows"] += len(old)
    count["stayed"] += len(stayed)
    count["moved"] += len(elsewhere)
    count["gone"] += len(old - stayed - elsewhere)
count["added"] = sum(map(len, new.values())) - count["stayed"] - count["moved"]
print(json.dumps(count))
"""


def prepare(place: Place) -> dict[str, Any]:
    """Prepare the rows as they are now; what the command took and what it says of itself."""
    shutil.rmtree(place.work / "tmp", ignore_errors=True)
    command = proofbox_command(place)
    measured = measure(command, environment(place.work), place.work / "log.txt")
    return {**asdict(measured), "report": json.loads(place.report.read_text())}


def second_use(made: dict[str, Any]) -> float:
    """Seconds from the recipe to the prepared data, without the loading of programs."""
    seconds: dict[str, float] = made["report"]["seconds"]
    return round(seconds["source found"] + seconds["prepared"], 2)


def moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """How many rows stayed in their partition, moved to another, are gone, or are new."""
    files = [json.dumps(made["report"]["files"]) for made in (before, after)]
    command = [sys.executable, "-c", COMPARE, *files]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def append(place: Place, sources: list[Path]) -> None:
    """Add rows at the end of the file."""
    given = ["--from", *map(str, sources)] if sources else []
    command = [sys.executable, str(HERE / "make_rows.py"), str(place.rows), "--append", str(ADDED)]
    subprocess.run([*command, *given], check=True)


def faults(first: dict[str, Any], again: dict[str, Any], went: dict[str, int]) -> list[str]:
    """What is not as it must be."""
    memory, seconds = first["largest_process"], second_use(again)
    found = []
    if memory >= MOST_MEMORY:
        found.append(f"the largest process had {memory / 1e9:.2f} GB")
    if seconds >= MOST_SECONDS:
        found.append(f"the second use took {seconds} s")
    if went["moved"] or went["gone"]:
        found.append(f"{went['moved']} rows moved, {went['gone']} are gone")
    return found


def main() -> None:
    """Measure, write the result, and fail if anything is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", default=[])
    parser.add_argument("--folder", type=Path, help="where it works; about 10 GB for 2 million")
    parser.add_argument("--result", type=Path, default=HERE / "data_memory.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = make_files(Path(folder), options.rows, options.sources)
        place.work.mkdir()
        size = place.rows.stat().st_size
        first = prepare(place)
        print(f"prepared: {first}", flush=True)
        again = prepare(place)
        print(f"used again: {again}", flush=True)
        append(place, options.sources)
        added = prepare(place)
        print(f"{ADDED} rows added: {added}", flush=True)
        went = moved(first, added)
    for made in (first, again, added):
        del made["report"]["files"]
    found = {
        "rows": options.rows,
        "bytes": size,
        "machine": machine(),
        "prepared": first,
        "used_again": again,
        "second_use_seconds": second_use(again),
        "with_rows_added": added,
        "rows_before_and_after": went,
    }
    options.result.write_text(json.dumps(found, indent=1) + "\n")
    print(f"rows before and after: {went}; second use: {second_use(again)} s")
    if wrong := faults(first, again, went):
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()
