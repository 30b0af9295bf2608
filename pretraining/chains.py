"""Chains: programs that change one number or one text in several steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from pretraining.forms import Atom, Form, draw
from pretraining.kinds import Kind, Value
from pretraining.mappings import MAPPINGS
from pretraining.names import Scope
from pretraining.phrasebook import Voice
from pretraining.program import Header, Program

# mappings whose constant can as well be the function's second parameter
_WITH_PARAMETER = ("add", "subtract", "multiply", "from", "cap", "raise")


@dataclass(frozen=True, slots=True)
class Step:
    """A mapping whose constant may be taken from the second parameter instead."""

    atom: Atom
    of_parameter: bool = False

    @property
    def key(self) -> str:
        """The canonical text."""
        return f"{self.atom.form.name}(p)" if self.of_parameter else self.atom.key

    def filled(self, value: Value) -> Atom:
        """The mapping with ``value`` for its constant if that is the parameter's."""
        return Atom(self.atom.form, (value,)) if self.of_parameter else self.atom


class _Bare(str):
    """A parameter's name among constants: it is written without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Program):
    """Two to four mappings, one after the other, of a number or a text."""

    kind: Kind
    steps: tuple[Step, ...]

    @property
    def key(self) -> str:
        """The canonical text of the steps."""
        return f"{self.kind} | " + " | ".join(step.key for step in self.steps)

    @property
    def parameters(self) -> tuple[Kind, ...]:
        """The value and, where a step needs it, a second number."""
        return (self.kind, Kind.NUMBER) if self._second else (self.kind,)

    @property
    def hints(self) -> tuple[str, ...]:
        """Words about the kind of value."""
        return ("change", "adjust", "convert") if self.kind is Kind.TEXT else ("compute", "scale")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numeric constants."""
        atoms = [step.atom for step in self.steps if not step.of_parameter]
        return tuple(c for atom in atoms for c in atom.constants if isinstance(c, int))

    @property
    def _second(self) -> bool:
        return any(step.of_parameter for step in self.steps)

    def means(self, *arguments: Value) -> Value:
        """The reference result."""
        value = arguments[0]
        for step in self.steps:
            value = step.filled(arguments[-1]).means(value)
        return value

    def clauses(self, voice: Voice, header: Header) -> list[str]:
        """The steps in order; the first names the parameter."""
        second = _Bare(header.parameters[-1])
        first = f"~{voice.choice(('take', 'start with'))} {header.parameters[0]}"
        steps = [step.filled(second).clause(voice) for step in self.steps]
        if voice.random() < 0.4:
            steps[0] = self.steps[0].filled(second).clause(voice, header.parameters[0])
            return [*steps, f"~return {voice.choice(('the result', 'it'))}"]
        return [first, *steps, f"~return {voice.choice(('the result', 'it'))}"]

    def body(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        """One expression, or one assignment per step."""
        second = _Bare(header.parameters[-1])
        value = header.parameters[0]
        if rng.random() < 0.5:
            for step in self.steps:
                value = step.filled(second).code(rng, value)
            return [f"return {value}"]
        held = scope.pick(rng, ("result", "out", "value", "current"))
        lines = []
        for step in self.steps[:-1]:
            lines.append(f"{held} = {step.filled(second).code(rng, value)}")
            value = held
        return [*lines, f"return {self.steps[-1].filled(second).code(rng, value)}"]

    def near_misses(self) -> list[Program]:
        """A step left out, two steps exchanged, a constant a little off."""
        missed: list[tuple[Step, ...]] = []
        for place, step in enumerate(self.steps):
            before, after = self.steps[:place], self.steps[place + 1 :]
            if len(self.steps) > 1 and not _changes_kind(step.atom.form):
                missed.append((*before, *after))
            if not step.of_parameter:
                missed += [(*before, Step(atom), *after) for atom in step.atom.near_misses()]
            if after and not (_changes_kind(step.atom.form) or _changes_kind(after[0].atom.form)):
                missed.append((*before, after[0], step, *after[1:]))
        return [
            replace(self, steps=steps)
            for steps in missed
            if any(step.of_parameter for step in steps) is self._second
        ]


def draw_chain(rng: Random) -> Chain:
    """A random chain of two to four steps, no form twice."""
    start = kind = rng.choice((Kind.NUMBER, Kind.TEXT))
    steps: list[Step] = []
    for _ in range(rng.choices((2, 3, 4), weights=(4, 4, 1))[0]):
        used = [step.atom.form for step in steps]
        atom = draw(rng, [form for form in MAPPINGS if form not in used], kind)
        free = start is Kind.NUMBER and atom.form.name in _WITH_PARAMETER
        steps.append(Step(atom, free and rng.random() < 0.3))
        kind = atom.form.gives or kind
    return Chain(kind=start, steps=tuple(steps))


def _changes_kind(form: Form) -> bool:
    return form.gives not in (None, *form.takes)
