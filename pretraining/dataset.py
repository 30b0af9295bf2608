"""The data set of the quickstart: instructions, answers and unit tests.

python -m pretraining.dataset --out recipes/quickstart/functions.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

from pretraining.checks import Checks, choose_checks
from pretraining.grammar import draw_program
from pretraining.program import Program, behaviour
from pretraining.wording import instruction_row

SEED = "functions 1"
ROWS = 3000
UNSEEN = 0.2  # share of the phrases that the base has not met; the README says how it was chosen
LONGEST_PROMPT, LONGEST_ANSWER = 260, 260  # characters; keeps a run on two cores short


def specifications(count: int = ROWS) -> list[tuple[Program, Checks]]:
    """``count`` programs, no two of which behave alike, with tests that catch their near misses.

    A program with a part that changes nothing (multiplying before counting) is left out: no test
    could tell whether the answer has it.
    """
    rng = Random(SEED)
    seen: set[str] = set()
    chosen: list[tuple[Program, Checks]] = []
    while len(chosen) < count:
        program = draw_program(rng)
        digest = behaviour(program)
        if digest in seen:
            continue
        checks = choose_checks(program, rng)
        if checks.survivors == 0 and len(set(map(repr, checks.results))) > 1:
            seen.add(digest)
            chosen.append((program, checks))
    return chosen


def held_out() -> frozenset[str]:
    """The behaviours of the data set's specifications, which pretraining must not contain."""
    return frozenset(behaviour(program) for program, _ in specifications())


def rows(unseen: float = UNSEEN) -> list[dict[str, str]]:
    """The rows of the data set in their order."""
    return [
        _row(place, program, checks, unseen)
        for place, (program, checks) in enumerate(specifications())
    ]


def _row(place: int, program: Program, checks: Checks, unseen: float) -> dict[str, str]:
    """The first wording that is short enough; the last of 50 if none is."""
    for attempt in range(50):
        row = instruction_row(Random(f"{SEED} row {place} {attempt}"), program, checks, unseen)
        prompt = len(row["instruction"]) + len(row["input"])
        if prompt <= LONGEST_PROMPT and len(row["output"]) <= LONGEST_ANSWER:
            break
    return row


def main() -> None:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("recipes/quickstart/functions.jsonl"))
    parser.add_argument("--unseen", type=float, default=UNSEEN)
    options = parser.parse_args()
    out: Path = options.out
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(options.unseen))
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {ROWS} rows, {len(text)} characters")


if __name__ == "__main__":
    main()
