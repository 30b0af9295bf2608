"""Streams: programs that take elements from a source, filter and map them, and collect them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from pretraining.collectors import COLLECTOR_WEIGHTS, COLLECTORS, Collector
from pretraining.conditions import CONDITIONS
from pretraining.forms import Atom, draw
from pretraining.kinds import Kind, Value
from pretraining.mappings import MAPPINGS
from pretraining.names import VARIABLES, Scope
from pretraining.phrasebook import Voice
from pretraining.program import Header, Program
from pretraining.sources import SOURCE_WEIGHTS, SOURCES, Source


@dataclass(frozen=True, slots=True)
class Filter:
    """Keeps the elements that a condition holds of, or drops them."""

    condition: Atom
    keep: bool

    @property
    def key(self) -> str:
        """The canonical text."""
        return f"{'keep' if self.keep else 'drop'} {self.condition.key}"

    def clause(self, voice: Voice) -> str:
        """The verb and the condition, as in ``~keep those that are even``."""
        verbs = (
            ("~keep only those that", "~keep the ones that", "~select those that")
            if self.keep
            else ("~drop those that", "~leave out the ones that", "~skip those that")
        )
        verb = voice.phrase("keep" if self.keep else "drop", verbs)
        return f"{verb} {self.condition.clause(voice)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Program):
    """A source, at most three filters and mappings, and a collector."""

    source: Source
    stages: tuple[Filter | Atom, ...]
    collector: Collector
    constants: tuple[Value, ...] = ()

    @property
    def key(self) -> str:
        """The canonical text of source, stages and collector."""
        stages = " | ".join(stage.key for stage in self.stages)
        return f"{self.source.name} | {stages} | {self.collector.name}{self.constants!r}"

    @property
    def parameters(self) -> tuple[Kind, ...]:
        """The source's parameters."""
        return self.source.parameters

    @property
    def hints(self) -> tuple[str, ...]:
        """Words about the collector."""
        return self.collector.hints

    @property
    def numbers(self) -> tuple[int, ...]:
        """The constants of the conditions and mappings."""
        atoms = [s.condition if isinstance(s, Filter) else s for s in self.stages]
        return tuple(c for atom in atoms for c in atom.constants if isinstance(c, int))

    def means(self, *arguments: Value) -> Value:
        """The reference result, stage by stage."""
        elements = list(self.source.means(*arguments))
        for stage in self.stages:
            if isinstance(stage, Filter):
                elements = [x for x in elements if bool(stage.condition.means(x)) is stage.keep]
            else:
                elements = [stage.means(x) for x in elements]
        return self.collector.means(elements, *self.constants)

    def clauses(self, voice: Voice, header: Header) -> list[str]:
        """Either step by step or, where the order allows it, one noun phrase."""
        source = voice.phrase(self.source.name, self.source.says).format(*header.parameters)
        if self._noun_phrase_fits() and voice.random() < 0.5:
            return [self._noun_phrase(voice, source)]
        result = self._collector_words(voice, "result", self.collector.results)
        first = f"~{voice.choice(('take', 'go through', 'start with'))} {source}"
        each = voice.choice(("each", "each one", "every one"))
        stages = [
            s.clause(voice) if isinstance(s, Filter) else s.clause(voice, each) for s in self.stages
        ]
        return [first, *stages, f"~return {result}"]

    def body(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        """One expression, one comprehension per stage, a loop, or recursion."""
        styles = ["loop"] * bool(self.collector.update) * 2
        if self.collector.code:
            styles += ["expression", "expression", "steps"]
        if self.collector.fold and self.source.name in ("numbers", "words"):
            styles.append("recursion")
        match rng.choice(styles):
            case "loop":
                return self._loop(rng, header, scope)
            case "steps" if len(self.stages) > 1:
                return self._steps(rng, header, scope)
            case "recursion":
                return self._recursion(rng, header, scope)
            case _:
                return self._expression(rng, header, scope)

    def near_misses(self) -> list[Program]:
        """One stage left out, turned around or with another constant; another collector."""
        missed: list[Program] = []
        for place, stage in enumerate(self.stages):
            others = self.stages[:place], self.stages[place + 1 :]
            alternatives: list[tuple[Filter | Atom, ...]] = [()] if _keeps_kind(stage) else []
            if isinstance(stage, Filter):
                alternatives.append((replace(stage, keep=not stage.keep),))
                alternatives += [
                    (replace(stage, condition=atom),) for atom in _siblings(stage.condition)
                ]
            else:
                alternatives += [(atom,) for atom in stage.near_misses()]
            missed += [replace(self, stages=(*others[0], *a, *others[1])) for a in alternatives]
        if self.collector.constants and isinstance(self.constants[0], int):
            missed.append(replace(self, constants=(self.constants[0] + 1,)))
        return missed

    def _noun_phrase_fits(self) -> bool:
        """Filters before mappings, and every mapping has a participle."""
        order = [isinstance(stage, Atom) for stage in self.stages]
        said = all(s.form.participles for s in self.stages if isinstance(s, Atom))
        return order == sorted(order) and said and self.collector.name[:3] != "by_"

    def _noun_phrase(self, voice: Voice, source: str) -> str:
        noun = self._collector_words(voice, "noun", self.collector.nouns)
        filters = [s for s in self.stages if isinstance(s, Filter)]
        kept = [f"that {s.condition.clause(voice)}" for s in filters if s.keep]
        dropped = [f"those that {s.condition.clause(voice)}" for s in filters if not s.keep]
        exception = f"except {' and '.join(dropped)}" if dropped else ""
        mappings = [s.participle(voice) for s in self.stages if isinstance(s, Atom)]
        each = f", each {' and then '.join(mappings)}" if mappings else ""
        words = (source, " and ".join(kept), exception)
        return f"~return {noun} {' '.join(filter(None, words))}{each}"

    def _collector_words(self, voice: Voice, part: str, known: Sequence[str]) -> str:
        template = voice.phrase(f"{self.collector.name} {part}", known)
        return template.format(*map(repr, self.constants))

    def _variables(self, rng: Random, header: Header, scope: Scope) -> tuple[str, str, str]:
        """The loop's target, its iterable and the expression of an element."""
        kind = self.source.variable or self.source.gives
        second = scope.pick(rng, VARIABLES[kind])
        first = scope.pick(rng, VARIABLES[kind]) if "{u}" in self.source.target else ""
        parts = (self.source.target, self.source.iterable, self.source.element)
        target, iterable, element = (
            part.format(*header.parameters, u=first, v=second) for part in parts
        )
        return target, iterable, element

    def _inlined(self, rng: Random, element: str) -> tuple[str, list[str]]:
        """The final element and the conditions as expressions of the loop variable."""
        conditions: list[str] = []
        for stage in self.stages:
            if isinstance(stage, Filter):
                conditions.append(stage.condition.code(rng, element, negated=not stage.keep))
            else:
                element = stage.code(rng, element)
        return element, conditions

    def _collected(self, rng: Random, comprehension: str, *, variable: bool) -> str:
        template = rng.choice(self.collector.code)
        seq = comprehension if variable else f"[{comprehension}]"
        return template.format(*map(repr, self.constants), gen=comprehension, seq=seq)

    def _expression(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        target, iterable, element = self._variables(rng, header, scope)
        final, conditions = self._inlined(rng, element)
        comprehension = f"{final} for {target} in {iterable}" + _if(conditions)
        if rng.random() < 0.3:
            kept = scope.pick(rng, ("kept", "result", "selected", "chosen"))
            value = self._collected(rng, kept, variable=True)
            return [f"{kept} = [{comprehension}]", f"return {value}"]
        return [f"return {self._collected(rng, comprehension, variable=False)}"]

    def _steps(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        target, iterable, element = self._variables(rng, header, scope)
        variable = target.split(", ")[-1]
        held = scope.pick(rng, ("kept", "result", "items", "current"))
        lines: list[str] = []
        for stage in self.stages:
            if isinstance(stage, Filter):
                condition = stage.condition.code(rng, element, negated=not stage.keep)
                lines.append(f"{held} = [{element} for {target} in {iterable} if {condition}]")
            else:
                lines.append(f"{held} = [{stage.code(rng, element)} for {target} in {iterable}]")
            target, iterable, element = variable, held, variable
        return [*lines, f"return {self._collected(rng, held, variable=True)}"]

    def _loop(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        target, iterable, element = self._variables(rng, header, scope)
        accumulator = scope.pick(rng, self.collector.accumulators)
        inner, depth, assign = [], "    ", rng.random() < 0.4
        variable = target.split(", ")[-1]
        for stage in self.stages:
            if isinstance(stage, Filter):
                inner.append(
                    f"{depth}if {stage.condition.code(rng, element, negated=not stage.keep)}:"
                )
                depth += "    "
            else:
                element = stage.code(rng, element)
                if assign:
                    inner.append(f"{depth}{variable} = {element}")
                    element = variable
        lines = _update(self.collector, accumulator, element, self.constants)
        start = self.collector.start.format()
        return [
            f"{accumulator} = {start}",
            f"for {target} in {iterable}:",
            *inner,
            *(depth + line for line in lines),
            f"return {self.collector.end.format(acc=accumulator)}",
        ]

    def _recursion(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        items = header.parameters[0]
        first, rest = scope.pick(rng, ("first", "head")), scope.pick(rng, ("rest", "tail"))
        final, conditions = self._inlined(rng, first)
        whole = self.collector.fold.format(x=final, b=_operand(final), rest=rest)
        last = f"return {whole}"
        if conditions:
            last = f"return {whole} if {' and '.join(conditions)} else {rest}"
        return [
            f"if not {items}:",
            f"    return {self.collector.start.format()}",
            f"{first} = {items}[0]",
            f"{rest} = {header.function}({items}[1:])",
            last,
        ]


def draw_stream(rng: Random) -> Stream:
    """A random stream program of one to three stages."""
    source = rng.choices(SOURCES, weights=SOURCE_WEIGHTS)[0]
    kind = source.gives
    stages: list[Filter | Atom] = []
    for _ in range(rng.choices((1, 2, 3), weights=(4, 5, 2))[0]):
        filters = sum(isinstance(stage, Filter) for stage in stages)
        # a mapped character may be longer than one, so that conditions on characters are over
        mapped = kind is Kind.CHARACTER and filters < len(stages)
        if rng.random() < 0.5 and filters < 2 and not mapped:
            stages.append(Filter(draw(rng, CONDITIONS, kind), rng.random() < 0.75))
        else:
            mapping = draw(rng, MAPPINGS, kind)
            stages.append(mapping)
            kind = mapping.form.gives or kind
    fitting = [
        (collector, weight)
        for collector, weight in zip(COLLECTORS, COLLECTOR_WEIGHTS, strict=True)
        if kind in collector.takes
    ]
    collector = rng.choices([c for c, _ in fitting], weights=[w for _, w in fitting])[0]
    constants = (rng.choice(collector.constants),) if collector.constants else ()
    return Stream(source=source, stages=tuple(stages), collector=collector, constants=constants)


def _if(conditions: Sequence[str]) -> str:
    return f" if {' and '.join(conditions)}" if conditions else ""


def _operand(expression: str) -> str:
    return expression if expression.isidentifier() else f"({expression})"


def _update(
    collector: Collector, accumulator: str, element: str, constants: Sequence[Value]
) -> list[str]:
    return [
        line.format(*map(repr, constants), acc=accumulator, x=element, b=_operand(element))
        for line in collector.update
    ]


def _keeps_kind(stage: Filter | Atom) -> bool:
    return isinstance(stage, Filter) or stage.form.gives in (None, *stage.form.takes)


def _siblings(condition: Atom) -> list[Atom]:
    """The condition with another constant, and ``>`` for ``>=`` and the like."""
    names = {"greater": "at_least", "at_least": "greater", "less": "at_most", "at_most": "less"}
    others = [form for form in CONDITIONS if form.name == names.get(condition.form.name)]
    return condition.near_misses() + [Atom(form, condition.constants) for form in others]
