"""Entries: programs that select and change the entries of a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from pretraining.conditions import CONDITIONS
from pretraining.forms import Atom, draw
from pretraining.kinds import Kind, Value
from pretraining.mappings import MAPPINGS
from pretraining.names import Scope
from pretraining.phrasebook import Voice
from pretraining.program import Header, Program

_GOALS = {
    "table": ("the new dictionary", "the result as a dictionary"),
    "keys": ("the sorted list of the keys", "the keys as a sorted list"),
    "values": ("the list of the values", "the values as a list"),
    "total": ("the sum of the values", "the total of the values"),
    "swapped": ("a dictionary from value to key", "a dictionary with key and value swapped"),
    "pairs": ("the list of (key, value) tuples", "the entries as a list of tuples"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries(Program):
    """Conditions on keys and values, a mapping of the value or of the key, and a goal."""

    on_key: Atom | None
    on_value: Atom | None
    change_key: Atom | None
    change_value: Atom | None
    goal: str

    @property
    def key(self) -> str:
        """The canonical text."""
        atoms = (self.on_key, self.on_value, self.change_key, self.change_value)
        return f"entries | {' | '.join(a.key if a else '-' for a in atoms)} | {self.goal}"

    @property
    def parameters(self) -> tuple[Kind, ...]:
        """The dictionary."""
        return (Kind.TABLE,)

    @property
    def hints(self) -> tuple[str, ...]:
        """Words about dictionaries."""
        return ("entries", "filter", "update", "lookup", "table")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The constants on values."""
        atoms = [atom for atom in (self.on_value, self.change_value) if atom]
        return tuple(c for atom in atoms for c in atom.constants if isinstance(c, int))

    def means(self, *arguments: Value) -> Value:
        """The reference result."""
        pairs = [
            (
                self.change_key.means(name) if self.change_key else name,
                self.change_value.means(value) if self.change_value else value,
            )
            for name, value in arguments[0].items()
            if (not self.on_key or self.on_key.means(name))
            and (not self.on_value or self.on_value.means(value))
        ]
        match self.goal:
            case "table":
                return dict(pairs)
            case "swapped":
                return {value: name for name, value in pairs}
            case "keys":
                return sorted(name for name, _ in pairs)
            case "values":
                return [value for _, value in pairs]
            case "total":
                return sum(value for _, value in pairs)
            case _:
                return pairs

    def clauses(self, voice: Voice, header: Header) -> list[str]:
        """Selection, change and goal, step by step."""
        table = voice.choice((header.parameters[0], f"the dictionary {header.parameters[0]}"))
        said = []
        conditions = []
        if self.on_key:
            conditions.append(f"key {self.on_key.clause(voice, plural=False)}")
        if self.on_value:
            conditions.append(f"value {self.on_value.clause(voice, plural=False)}")
        if conditions:
            verb = voice.choice(("~keep the entries of", "~select the entries of"))
            said.append(f"{verb} {table} whose {' and whose '.join(conditions)}")
        else:
            said.append(f"~take the entries of {table}")
        if self.change_key:
            said.append(self.change_key.clause(voice, "each key"))
        if self.change_value:
            said.append(self.change_value.clause(voice, "each value"))
        return [*said, f"~return {voice.phrase(self.goal + ' entries', _GOALS[self.goal])}"]

    def body(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        """A comprehension or a loop."""
        k = scope.pick(rng, ("key", "k", "name"))
        v = scope.pick(rng, ("value", "v", "amount"))
        tests = []
        if self.on_key:
            tests.append(self.on_key.code(rng, k))
        if self.on_value:
            tests.append(self.on_value.code(rng, v))
        new_key = self.change_key.code(rng, k) if self.change_key else k
        new_value = self.change_value.code(rng, v) if self.change_value else v
        loop = f"for {k}, {v} in {header.parameters[0]}.items()"
        if self.goal != "keys" and rng.random() < 0.4:
            own = "total" if self.goal == "total" else "new"
            accumulator = scope.pick(rng, ("result", "out", own))
            return self._loop(accumulator, loop, tests, (new_key, new_value))
        source = loop + (f" if {' and '.join(tests)}" if tests else "")
        template = {
            "table": "{{{k}: {v} {s}}}",
            "swapped": "{{{v}: {k} {s}}}",
            "keys": "sorted({k} {s})",
            "values": "[{v} {s}]",
            "total": "sum({v} {s})",
            "pairs": "[({k}, {v}) {s}]",
        }[self.goal]
        return ["return " + template.format(k=new_key, v=new_value, s=source)]

    def _loop(
        self, accumulator: str, loop: str, tests: list[str], entry: tuple[str, str]
    ) -> list[str]:
        key, value = entry
        start, update = {
            "table": ("{}", f"{accumulator}[{key}] = {value}"),
            "swapped": ("{}", f"{accumulator}[{value}] = {key}"),
            "values": ("[]", f"{accumulator}.append({value})"),
            "total": ("0", f"{accumulator} += {value}"),
            "pairs": ("[]", f"{accumulator}.append(({key}, {value}))"),
        }[self.goal]
        lines = [f"{accumulator} = {start}", f"{loop}:"]
        if tests:
            lines += [f"    if {' and '.join(tests)}:", f"        {update}"]
        else:
            lines.append(f"    {update}")
        return [*lines, f"return {accumulator}"]

    def near_misses(self) -> list[Program]:
        """A condition or a change left out or with another constant."""
        missed: list[Program] = []
        for name in ("on_key", "on_value", "change_key", "change_value"):
            atom = getattr(self, name)
            if atom:
                missed.append(replace(self, **{name: None}))
                missed += [replace(self, **{name: other}) for other in atom.near_misses()]
        return missed


def draw_entries(rng: Random) -> Entries:
    """A random program with at least one condition or change."""
    while True:
        goal = rng.choice(list(_GOALS))
        numeric = [form for form in MAPPINGS if Kind.NUMBER in form.takes]
        textual = [form for form in MAPPINGS if Kind.WORD in form.takes and form.gives is None]
        changes_key = goal in ("table", "keys", "pairs", "swapped") and rng.random() < 0.35
        program = Entries(
            on_key=draw(rng, CONDITIONS, Kind.WORD) if rng.random() < 0.35 else None,
            on_value=draw(rng, CONDITIONS, Kind.NUMBER) if rng.random() < 0.5 else None,
            change_key=draw(rng, textual, Kind.WORD) if changes_key else None,
            change_value=draw(rng, numeric, Kind.NUMBER)
            if goal != "keys" and rng.random() < 0.6
            else None,
            goal=goal,
        )
        atoms = (program.on_key, program.on_value, program.change_key, program.change_value)
        if any(atoms):
            return program
