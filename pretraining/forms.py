"""Forms: the words of the language of specifications (conditions on and mappings of one value).

Each form carries its ways to be said, its ways to be written and what it means. Saying and
writing vary at random; the meaning is an independent reference that the tests compare with.
In what is said, ``~`` marks a verb (``~keep`` becomes "keep" or "keeps"). In code, ``{x}`` is the
operand, in brackets where precedence asks for them, ``{inner}`` the operand as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from pretraining.kinds import Kind, Value
from pretraining.phrasebook import Voice

Constant = int | str
SMALL = tuple(range(1, 21))
FACTORS = tuple(range(3, 10))
LETTERS = "abcdegilmnoprst"
PLURAL = {"be": "are", "s": "", "do": "do", "have": "have", "ies": "y"}
SINGULAR = {"be": "is", "s": "s", "do": "does", "have": "has", "ies": "ies"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A condition (``gives`` is None) or a mapping from one kind of value to another.

    Attributes:
        says: clauses; a mapping's act on ``{it}``, a condition's follow "that".
        participles: for a mapping, what follows "each"; empty if it cannot be said so.
        code: expressions that are equal to one another.
        negated: for a condition, expressions of the opposite.
        draws: one tuple of choices per constant.
    """

    name: str
    takes: tuple[Kind, ...]
    gives: Kind | None = None
    says: tuple[str, ...]
    participles: tuple[str, ...] = ()
    code: tuple[str, ...]
    negated: tuple[str, ...] = ()
    means: Callable[..., Value]
    draws: tuple[Sequence[Constant], ...] = ()


@dataclass(frozen=True, slots=True)
class Atom:
    """A form with its constants: the smallest piece of a specification."""

    form: Form
    constants: tuple[Constant, ...] = ()

    @property
    def key(self) -> str:
        """The canonical text of this piece."""
        return f"{self.form.name}({','.join(map(repr, self.constants))})"

    def means(self, value: Value) -> Value:
        """The reference result for ``value``."""
        return self.form.means(value, *self.constants)

    def code(self, rng: Random, operand: str, *, negated: bool = False) -> str:
        """An expression for this piece (or its opposite) applied to the expression ``operand``."""
        template = rng.choice(self.form.negated if negated else self.form.code)
        return template.format(*map(repr, self.constants), x=bracketed(operand), inner=operand)

    def clause(self, voice: Voice, it: str = "it", *, plural: bool = True) -> str:
        """What this piece does to ``it``, or what must hold of those (``plural``) or of it."""
        template = voice.phrase(self.form.name, self.form.says)
        verbs = PLURAL if plural else SINGULAR
        return template.format(*map(repr, self.constants), it=it, **verbs)

    def participle(self, voice: Voice) -> str:
        """This mapping as it follows "each": "multiplied by 3"."""
        template = voice.phrase(f"{self.form.name} participle", self.form.participles)
        return template.format(*map(repr, self.constants))

    def near_misses(self) -> list[Atom]:
        """The same form with one constant a little off."""
        return [
            Atom(self.form, (*self.constants[:i], other, *self.constants[i + 1 :]))
            for i, constant in enumerate(self.constants)
            for other in _neighbours(constant, self.form.draws[i])
        ]


def draw(rng: Random, forms: Sequence[Form], kind: Kind) -> Atom:
    """A random form that takes ``kind``, with random constants (all different)."""
    form = rng.choice([form for form in forms if kind in form.takes])
    constants: list[Constant] = []
    for choices in form.draws:
        constants.append(rng.choice([c for c in choices if c not in constants]))
    if form.name in ("between", "remainder_is"):
        constants.sort(reverse=form.name == "remainder_is")
    return Atom(form, tuple(constants))


@lru_cache(maxsize=100_000)
def bracketed(expression: str) -> str:
    """``expression`` in brackets, unless it binds as tightly as a name does."""
    body = ast.parse(expression, mode="eval").body
    atoms = (ast.Name, ast.Call, ast.Subscript, ast.Constant, ast.Attribute, ast.List)
    return expression if isinstance(body, atoms) else f"({expression})"


def _neighbours(constant: Constant, choices: Sequence[Constant]) -> list[Constant]:
    if isinstance(constant, int):
        return [constant - 1, constant + 1]
    place = list(choices).index(constant)
    return [choices[(place + 1) % len(choices)]]
