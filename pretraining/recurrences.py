"""Recurrences: sequences defined by a first value and a rule for the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from pretraining.kinds import Kind, Value
from pretraining.names import Scope
from pretraining.phrasebook import Voice
from pretraining.program import Header, Program

_TERMS = ("constant", "n", "multiple", "square", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence(Program):
    """f(0) = ``first``; f(n) = ``factor`` · f(n - 1) + term(n), all modulo ``modulus`` if not 0."""

    first: int
    factor: int
    term: str
    constant: int
    modulus: int

    @property
    def key(self) -> str:
        """The canonical text of the rule."""
        rule = f"{self.factor} {self.term}({self.constant}) mod {self.modulus}"
        return f"recurrence | {self.first} | {rule}"

    @property
    def parameters(self) -> tuple[Kind, ...]:
        """The index of the element of the sequence."""
        return (Kind.COUNT,)

    @property
    def hints(self) -> tuple[str, ...]:
        """Words about sequences."""
        return ("sequence", "series", "term", "recur")

    @property
    def numbers(self) -> tuple[int, ...]:
        """Small indices tell rules apart best."""
        return (1, 2, 3, 4, 5)

    def means(self, *arguments: Value) -> int:
        """The reference result, computed upwards."""
        value = self.first
        for n in range(1, arguments[0] + 1):
            value = self.factor * value + self._addend(n)
            value = value % self.modulus if self.modulus else value
        return value

    def _addend(self, n: int) -> int:
        values = {
            "constant": self.constant,
            "n": n,
            "multiple": self.constant * n,
            "square": n * n,
            "none": 0,
        }
        return values[self.term]

    def clauses(self, voice: Voice, header: Header) -> list[str]:
        """The first value and the rule in words."""
        n, f = header.parameters[0], header.function
        times = {1: "", 2: "twice ", 3: "three times "}[self.factor]
        before = voice.choice((f"{f}({n} - 1)", f"its value at {n} - 1"))
        added = {
            "constant": f" plus {self.constant}",
            "n": f" plus {n}",
            "multiple": f" plus {self.constant} times {n}",
            "square": f" plus the square of {n}",
            "none": "",
        }[self.term]
        modulo = f", modulo {self.modulus}" if self.modulus else ""
        start = f"~return {self.first} {voice.choice(('if', 'when'))} {n} is 0"
        return [start, f"{times}{before}{added}{modulo} otherwise"]

    def body(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        """Recursion (with ``if`` or a conditional expression) or a loop."""
        n, f = header.parameters[0], header.function
        if rng.random() < 0.3:
            value = scope.pick(rng, ("value", "result", "current"))
            i = scope.pick(rng, ("i", "k", "j"))
            rule = self._rule(rng, value, i)
            return [
                f"{value} = {self.first}",
                f"for {i} in range(1, {n} + 1):",
                f"    {value} = {rule}",
                f"return {value}",
            ]
        rule = self._rule(rng, f"{f}({n} - 1)", n)
        if rng.random() < 0.3:
            return [f"return {self.first} if {n} == 0 else {rule}"]
        return [f"if {n} == 0:", f"    return {self.first}", f"return {rule}"]

    def _rule(self, rng: Random, before: str, n: str) -> str:
        forward = rng.random() < 0.5
        scaled = {True: f"{self.factor} * {before}", False: f"{before} * {self.factor}"}[forward]
        scaled = before if self.factor == 1 else scaled
        added = {
            "constant": f" + {self.constant}",
            "n": f" + {n}",
            "multiple": f" + {self.constant} * {n}",
            "square": f" + {n} ** 2",
            "none": "",
        }[self.term]
        if not self.modulus:
            return scaled + added
        return f"({scaled}{added}) % {self.modulus}"

    def near_misses(self) -> list[Program]:
        """Another first value, factor, constant or modulus."""
        missed = [replace(self, first=self.first + 1), replace(self, factor=self.factor % 3 + 1)]
        if self.term in ("constant", "multiple"):
            missed.append(replace(self, constant=self.constant + 1))
        if self.modulus:
            missed += [replace(self, modulus=self.modulus + 1), replace(self, modulus=0)]
        return list(missed)


def draw_recurrence(rng: Random) -> Recurrence:
    """A random recurrence that is not constant."""
    factor = rng.choice((1, 2, 2, 3))
    return Recurrence(
        first=rng.randint(0, 9) if factor == 1 else rng.randint(1, 9),
        factor=factor,
        term=(term := rng.choice(_TERMS[: 4 if factor == 1 else 5])),
        constant=rng.randint(1, 9) if term in ("constant", "multiple") else 0,
        modulus=rng.choice((0, 0, 7, 10, 11, 13, 17, 20, 50, 100)),
    )
