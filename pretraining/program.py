"""A program: one specification of a function, which can be said, written and evaluated."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from pretraining.kinds import Kind, Value, sample
from pretraining.names import Scope
from pretraining.phrasebook import Voice

PROBES = 24
_VERB = re.compile(r"~((?:\w+-)?\w+)")
# What a near miss may raise where the program itself does not: a modulus of 0, a text for a number.
EVALUATION_ERRORS = (ArithmeticError, IndexError, TypeError, ValueError, KeyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a rendering has fixed: the function's name and its parameters' names."""

    function: str
    parameters: tuple[str, ...]

    @property
    def signature(self) -> str:
        """The call as written in a ``def``: ``total(numbers, limit)``."""
        return f"{self.function}({', '.join(self.parameters)})"


class Program(ABC):
    """A function's abstract semantics: operations and constants, without names or wording."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The specification as canonical text; two programs are the same iff their keys are."""

    @property
    @abstractmethod
    def parameters(self) -> tuple[Kind, ...]:
        """The kinds of the function's parameters."""

    @property
    @abstractmethod
    def hints(self) -> tuple[str, ...]:
        """Words that may stand in the function's name."""

    @property
    @abstractmethod
    def numbers(self) -> tuple[int, ...]:
        """The numeric constants, near which tests should probe."""

    @abstractmethod
    def clauses(self, voice: Voice, header: Header) -> list[str]:
        """What the function does, in clauses to be joined; ``~`` marks verbs."""

    @abstractmethod
    def body(self, rng: Random, header: Header, scope: Scope) -> list[str]:
        """The lines of one of the ways to write it, without the function's indentation."""

    @abstractmethod
    def means(self, *arguments: Value) -> Value:
        """The reference result."""

    @abstractmethod
    def near_misses(self) -> list[Program]:
        """Specifications that a careless reader could take for this one."""


def outcome(program: Program, arguments: Sequence[Value]) -> str:
    """The representation of the result, or of the kind of error that evaluation raised."""
    try:
        return repr(program.means(*arguments))
    except EVALUATION_ERRORS as error:
        return type(error).__name__


def argument_sets(program: Program, rng: Random, count: int) -> list[tuple[Value, ...]]:
    """``count`` samples of the function's arguments."""
    return [
        tuple(sample(kind, rng, program.numbers) for kind in program.parameters)
        for _ in range(count)
    ]


def behaviour(program: Program) -> str:
    """A digest of the results on fixed probes: equal for two ways to specify one function."""
    text = "\n".join(outcome(program, probe) for probe in _probes(program.parameters))
    return hashlib.sha256(f"{program.parameters}\n{text}".encode()).hexdigest()


@lru_cache(maxsize=64)
def _probes(kinds: tuple[Kind, ...]) -> list[tuple[Value, ...]]:
    rng = Random(f"probes for {','.join(kinds)}")
    return [tuple(sample(kind, rng, (5, 10, 15)) for kind in kinds) for _ in range(PROBES)]


def sentence(clauses: Sequence[str], *, third_person: bool = False) -> str:
    """Clauses joined as in a list, each verb in the infinitive or the third person."""
    joined = " and ".join(filter(None, (", ".join(clauses[:-1]), clauses[-1])))
    return _VERB.sub(lambda match: _third(match[1]) if third_person else match[1], joined)


def _third(verb: str) -> str:
    if verb == "do":
        return "does"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(s|x|z|ch|sh|o)$", verb) else "s")
