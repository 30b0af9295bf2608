"""Unit tests of a program: asserts computed from the reference, chosen to catch near misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from pretraining.kinds import Value
from pretraining.program import Program, argument_sets, outcome

_CANDIDATES, _FEWEST, _MOST = 60, 3, 6
_LONGEST_LITERAL = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """The chosen calls, their results, and how many near misses they do not tell apart."""

    calls: tuple[tuple[Value, ...], ...]
    results: tuple[Value, ...]
    survivors: int

    def source(self, function: str) -> str:
        """One ``assert`` a line."""
        return "\n".join(
            f"assert {call_text(function, call)} == {result!r}"
            for call, result in zip(self.calls, self.results, strict=True)
        )


def call_text(function: str, arguments: Sequence[Value]) -> str:
    """``total([1, 2], 3)``."""
    return f"{function}({', '.join(map(repr, arguments))})"


def choose_checks(program: Program, rng: Random) -> Checks:
    """Greedily the calls on which most of the remaining near misses give something else."""
    candidates = [
        call
        for call in argument_sets(program, rng, _CANDIDATES)
        if len(repr(call)) + len(outcome(program, call)) <= _LONGEST_LITERAL
    ]
    right = [outcome(program, call) for call in candidates]
    caught = [
        {i for i, call in enumerate(candidates) if outcome(miss, call) != right[i]}
        for miss in program.near_misses()
    ]
    chosen: list[int] = []
    while len(chosen) < _MOST:
        living = [places for places in caught if not places & set(chosen)]
        if not any(living) and len(chosen) >= _FEWEST:
            break
        results = [right[i] for i in chosen]
        chosen.append(
            max(
                (i for i in range(len(candidates)) if i not in chosen),
                key=lambda i: (sum(i in p for p in living), right[i] not in results, -i),
            )
        )
    return Checks(
        calls=tuple(candidates[i] for i in chosen),
        results=tuple(program.means(*candidates[i]) for i in chosen),
        survivors=sum(not places & set(chosen) for places in caught),
    )
