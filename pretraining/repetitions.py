"""Repetitions: programs with a ``while`` loop that changes a number until a condition fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from pretraining.forms import Atom
from pretraining.kinds import Kind, Value
from pretraining.mappings import MAPPINGS
from pretraining.names import Scope
from pretraining.phrasebook import Voice
from pretraining.program import Header, Program

_SHRINKING, _GROWING = ("subtract", "halve", "quotient"), ("add", "double", "multiply")
_GOALS = {
    "steps": ("the number of steps", "how many times this was done"),
    "last": ("the final value", "what is left"),
    "visited": ("the list of values seen on the way", "a list of the values before each change"),
    "sum": ("the sum of the values before each change",),
}
_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition(Program):
    """``change`` is applied while the number is above (below) ``bound``; ``goal`` is returned."""

    change: Atom
    above: bool
    bound: int
    goal: str

    @property
    def key(self) -> str:
        """The canonical text."""
        side = "above" if self.above else "below"
        return f"while {side} {self.bound} | {self.change.key} | {self.goal}"

    @property
    def parameters(self) -> tuple[Kind, ...]:
        """The number to start with, at least 1."""
        return (Kind.COUNT,)

    @property
    def hints(self) -> tuple[str, ...]:
        """Words about repeating."""
        return ("repeat", "until", "steps", "reach", "shrink" if self.above else "grow")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The bound and the constants of the change."""
        return (self.bound, *(c for c in self.change.constants if isinstance(c, int)))

    def means(self, *arguments: Value) -> Value:
        """The reference result.

        Raises:
            OverflowError: if the loop does not end (only near misses do that).
        """
        value, visited = arguments[0], []
        while value > self.bound if self.above else value < self.bound:
            visited.append(value)
            value = self.change.means(value)
            if len(visited) > _LIMIT:
                raise OverflowError("endless loop")
        return {"steps": len(visited), "last": value, "visited": visited, "sum": sum(visited)}[
            self.goal
        ]

    def clauses(self, voice: Voice, header: Header) -> list[str]:
        """The loop in one clause and the result in another."""
        n = header.parameters[0]
        side = voice.choice(("above", "greater than") if self.above else ("below", "less than"))
        result = f"~return {voice.phrase(self.goal + ' goal', _GOALS[self.goal])}"
        if voice.random() < 0.5:
            return [f"{self.change.clause(voice, n)} as long as it is {side} {self.bound}", result]
        return [f"~repeat while {n} is {side} {self.bound}: {self.change.clause(voice)}", result]

    def body(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        """A ``while`` loop or, for some goals, recursion."""
        n, f = header.parameters[0], header.function
        sign = ">" if self.above else "<"
        changed = self.change.code(rng, n)
        if self.goal != "last" and rng.random() < 0.3:
            empty, kept = {"steps": ("0", "1"), "visited": ("[]", f"[{n}]"), "sum": ("0", n)}[
                self.goal
            ]
            stop = "<=" if self.above else ">="
            return [
                f"if {n} {stop} {self.bound}:",
                f"    return {empty}",
                f"return {kept} + {f}({changed})",
            ]
        if self.goal == "last":
            return [f"while {n} {sign} {self.bound}:", f"    {n} = {changed}", f"return {n}"]
        names, start, update = {
            "steps": (("steps", "count"), "0", "{a} += 1"),
            "visited": (("seen", "values", "path"), "[]", "{a}.append({n})"),
            "sum": (("total", "result"), "0", "{a} += {n}"),
        }[self.goal]
        a = scope.pick(rng, names)
        return [
            f"{a} = {start}",
            f"while {n} {sign} {self.bound}:",
            f"    {update.format(a=a, n=n)}",
            f"    {n} = {changed}",
            f"return {a}",
        ]

    def near_misses(self) -> list[Program]:
        """Another bound or another constant."""
        changes = [replace(self, change=atom) for atom in self.change.near_misses()]
        return [replace(self, bound=self.bound + 1), replace(self, bound=self.bound - 1), *changes]


def draw_repetition(rng: Random) -> Repetition:
    """A random repetition that ends for every number from 1."""
    above = rng.random() < 0.6
    names = _SHRINKING if above else _GROWING
    form = rng.choice([form for form in MAPPINGS if form.name in names])
    constants = tuple(rng.choice(choices) for choices in form.draws)
    return Repetition(
        change=Atom(form, constants),
        above=above,
        bound=rng.randint(1, 15) if above else rng.randint(20, 99),
        goal=rng.choice(list(_GOALS)),
    )
