"""Ladders: programs that return one of several results, depending on conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from pretraining.conditions import CONDITIONS
from pretraining.forms import Atom, draw
from pretraining.kinds import Kind, Value, listed
from pretraining.mappings import MAPPINGS
from pretraining.names import Scope
from pretraining.phrasebook import Voice
from pretraining.program import Header, Program

_LABELS = listed(
    """
    low high small large red green blue yes no fizz buzz odd good bad hot cold near far left
    right
    """
)
# conditions that read well of one value alone
_NAMES = listed(
    """
    greater less at_least at_most between even odd divisible indivisible negative ends_in
    longer shorter starts ends contains
    """
)
_MAPPED = listed(
    """
    add subtract multiply double square negate from upper lower reverse first last append
    remove
    """
)

Outcome = Atom | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder(Program):
    """Rungs of a condition and what is returned where it holds, tried in order; then the rest."""

    kind: Kind
    rungs: tuple[tuple[Atom, Outcome], ...]
    otherwise: Outcome

    @property
    def key(self) -> str:
        """The canonical text of the rungs."""
        rungs = " | ".join(f"{condition.key} -> {_key(value)}" for condition, value in self.rungs)
        return f"{self.kind} ladder | {rungs} | {_key(self.otherwise)}"

    @property
    def parameters(self) -> tuple[Kind, ...]:
        """The value that the conditions are about."""
        return (self.kind,)

    @property
    def hints(self) -> tuple[str, ...]:
        """Words about deciding."""
        return ("choose", "classify", "grade", "label", "decide")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The constants of the conditions."""
        return tuple(c for atom, _ in self.rungs for c in atom.constants if isinstance(c, int))

    def means(self, *arguments: Value) -> Value:
        """The reference result."""
        value = arguments[0]
        for condition, result in self.rungs:
            if condition.means(value):
                return _result(result, value)
        return _result(self.otherwise, value)

    def clauses(self, voice: Voice, header: Header) -> list[str]:
        """A result and its condition per rung; only the first has the verb."""
        name = header.parameters[0]
        said = [
            f"{_said(voice, value, name)} {voice.choice(('if', 'when'))} "
            f"{name if place == 0 else 'it'} {condition.clause(voice, plural=False)}"
            for place, (condition, value) in enumerate(self.rungs)
        ]
        return [f"~return {said[0]}", *said[1:], f"{_said(voice, self.otherwise, name)} otherwise"]

    def body(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        """Early returns, ``elif``, or a conditional expression."""
        name = header.parameters[0]
        tests = [condition.code(rng, name) for condition, _ in self.rungs]
        values = [_written(rng, value, name) for _, value in self.rungs]
        last = _written(rng, self.otherwise, name)
        match rng.choice(("early", "early", "elif", "expression")):
            case "expression" if len(tests) == 1:
                return [f"return {values[0]} if {tests[0]} else {last}"]
            case "elif" if tests:
                return _elif(tests, values, last)
            case _:
                lines = []
                for test, value in zip(tests, values, strict=True):
                    lines += [f"if {test}:", f"    return {value}"]
                return [*lines, f"return {last}"]

    def near_misses(self) -> list[Program]:
        """A rung left out, rungs exchanged, a constant a little off."""
        missed: list[Program] = []
        for place, (condition, value) in enumerate(self.rungs):
            before, after = self.rungs[:place], self.rungs[place + 1 :]
            missed.append(replace(self, rungs=(*before, *after)))
            missed += [
                replace(self, rungs=(*before, (atom, value), *after))
                for atom in condition.near_misses()
            ]
        if len(self.rungs) > 1:
            missed.append(replace(self, rungs=self.rungs[::-1]))
        return missed


def draw_ladder(rng: Random) -> Ladder:
    """A random ladder of one to three rungs over a number or a text."""
    kind = rng.choice((Kind.NUMBER, Kind.NUMBER, Kind.TEXT))
    forms = [form for form in CONDITIONS if form.name in _NAMES]
    count = rng.choices((1, 2, 3), weights=(3, 5, 2))[0]
    style = rng.choice(("labels", "labels", "numbers", "mapped"))
    conditions: list[Atom] = []
    while len(conditions) < count:
        atom = draw(rng, forms, kind)
        if atom.form not in [other.form for other in conditions]:
            conditions.append(atom)
    outcomes = _draw_outcomes(rng, style, kind, count + 1)
    rungs = tuple(zip(conditions, outcomes[:-1], strict=True))
    return Ladder(kind=kind, rungs=rungs, otherwise=outcomes[-1])


def _draw_outcomes(rng: Random, style: str, kind: Kind, count: int) -> list[Outcome]:
    if style == "labels":
        return list(rng.sample(_LABELS, count))
    if style == "numbers":
        return list(rng.sample(range(-5, 100), count))
    forms = [form for form in MAPPINGS if form.name in _MAPPED]
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        atom = draw(rng, forms, kind)
        if atom.key not in [_key(other) for other in outcomes]:
            outcomes.append(atom)
    return outcomes


def _elif(tests: Sequence[str], values: Sequence[str], last: str) -> list[str]:
    lines = []
    for place, (test, value) in enumerate(zip(tests, values, strict=True)):
        lines += [f"{'elif' if place else 'if'} {test}:", f"    return {value}"]
    return [*lines, "else:", f"    return {last}"]


def _key(outcome: Outcome) -> str:
    return outcome.key if isinstance(outcome, Atom) else repr(outcome)


def _result(outcome: Outcome, value: Value) -> Value:
    return outcome.means(value) if isinstance(outcome, Atom) else outcome


def _said(voice: Voice, outcome: Outcome, name: str) -> str:
    if isinstance(outcome, Atom):
        return f"{name} {outcome.participle(voice)}"
    return repr(outcome)


def _written(rng: Random, outcome: Outcome, name: str) -> str:
    return outcome.code(rng, name) if isinstance(outcome, Atom) else repr(outcome)
