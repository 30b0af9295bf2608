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
SUFFIXES = ("!", "?", ".", "s", "ed", "-x", "_1", "ing")


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


_NUMBER = (Kind.NUMBER,)
_STRING = (Kind.WORD, Kind.TEXT)

CONDITIONS: tuple[Form, ...] = (
    Form(
        name="greater",
        takes=_NUMBER,
        draws=(SMALL,),
        means=lambda x, k: x > k,
        says=("{be} greater than {0}", "{be} above {0}", "{be} larger than {0}"),
        code=("{inner} > {0}",),
        negated=("{inner} <= {0}",),
    ),
    Form(
        name="less",
        takes=_NUMBER,
        draws=(SMALL,),
        means=lambda x, k: x < k,
        says=("{be} less than {0}", "{be} below {0}", "{be} smaller than {0}"),
        code=("{inner} < {0}",),
        negated=("{inner} >= {0}",),
    ),
    Form(
        name="at_least",
        takes=_NUMBER,
        draws=(SMALL,),
        means=lambda x, k: x >= k,
        says=("{be} at least {0}", "{be} {0} or more"),
        code=("{inner} >= {0}",),
        negated=("{inner} < {0}",),
    ),
    Form(
        name="at_most",
        takes=_NUMBER,
        draws=(SMALL,),
        means=lambda x, k: x <= k,
        says=("{be} at most {0}", "{be} {0} or less"),
        code=("{inner} <= {0}",),
        negated=("{inner} > {0}",),
    ),
    Form(
        name="between",
        takes=_NUMBER,
        draws=(SMALL, tuple(range(10, 31))),
        means=lambda x, a, b: a <= x <= b,
        says=("{be} between {0} and {1}", "lie{s} from {0} to {1}"),
        code=("{0} <= {inner} <= {1}",),
        negated=("not {0} <= {inner} <= {1}",),
    ),
    Form(
        name="even",
        takes=_NUMBER,
        means=lambda x: x % 2 == 0,
        says=("{be} even",),
        code=("{x} % 2 == 0",),
        negated=("{x} % 2 != 0", "{x} % 2 == 1"),
    ),
    Form(
        name="odd",
        takes=_NUMBER,
        means=lambda x: x % 2 == 1,
        says=("{be} odd",),
        code=("{x} % 2 == 1", "{x} % 2 != 0"),
        negated=("{x} % 2 == 0",),
    ),
    Form(
        name="divisible",
        takes=_NUMBER,
        draws=(FACTORS,),
        means=lambda x, k: x % k == 0,
        says=("{be} divisible by {0}", "can be divided by {0}"),
        code=("{x} % {0} == 0",),
        negated=("{x} % {0} != 0",),
    ),
    Form(
        name="indivisible",
        takes=_NUMBER,
        draws=(FACTORS,),
        means=lambda x, k: x % k != 0,
        says=("{be} not divisible by {0}",),
        code=("{x} % {0} != 0",),
        negated=("{x} % {0} == 0",),
    ),
    Form(
        name="remainder_is",
        takes=_NUMBER,
        draws=((3, 4, 5, 6, 7), (1, 2)),
        means=lambda x, k, r: x % k == r,
        says=("leave{s} a remainder of {1} when divided by {0}",),
        code=("{x} % {0} == {1}",),
        negated=("{x} % {0} != {1}",),
    ),
    Form(
        name="positive",
        takes=_NUMBER,
        means=lambda x: x > 0,
        says=("{be} positive",),
        code=("{inner} > 0",),
        negated=("{inner} <= 0",),
    ),
    Form(
        name="negative",
        takes=_NUMBER,
        means=lambda x: x < 0,
        says=("{be} negative",),
        code=("{inner} < 0",),
        negated=("{inner} >= 0",),
    ),
    Form(
        name="different",
        takes=_NUMBER,
        draws=(SMALL,),
        means=lambda x, k: x != k,
        says=("{be} different from {0}", "{be} not equal to {0}"),
        code=("{inner} != {0}",),
        negated=("{inner} == {0}",),
    ),
    Form(
        name="ends_in",
        takes=_NUMBER,
        draws=(tuple(range(10)),),
        means=lambda x, d: x % 10 == d,
        says=("end{s} in the digit {0}",),
        code=("{x} % 10 == {0}",),
        negated=("{x} % 10 != {0}",),
    ),
    Form(
        name="longer",
        takes=_STRING,
        draws=((2, 3, 4, 5, 6),),
        means=lambda x, k: len(x) > k,
        says=("{be} longer than {0} letters", "{have} more than {0} letters"),
        code=("len({inner}) > {0}",),
        negated=("len({inner}) <= {0}",),
    ),
    Form(
        name="shorter",
        takes=_STRING,
        draws=((4, 5, 6, 7),),
        means=lambda x, k: len(x) < k,
        says=("{be} shorter than {0} letters", "{have} fewer than {0} letters"),
        code=("len({inner}) < {0}",),
        negated=("len({inner}) >= {0}",),
    ),
    Form(
        name="of_length",
        takes=_STRING,
        draws=((3, 4, 5, 6),),
        means=lambda x, k: len(x) == k,
        says=("{be} exactly {0} letters long",),
        code=("len({inner}) == {0}",),
        negated=("len({inner}) != {0}",),
    ),
    Form(
        name="starts",
        takes=_STRING,
        draws=(LETTERS,),
        means=lambda x, c: x.startswith(c),
        says=("start{s} with {0}", "begin{s} with {0}"),
        code=("{x}.startswith({0})",),
        negated=("not {x}.startswith({0})",),
    ),
    Form(
        name="ends",
        takes=_STRING,
        draws=(LETTERS,),
        means=lambda x, c: x.endswith(c),
        says=("end{s} with {0}", "end{s} in {0}"),
        code=("{x}.endswith({0})",),
        negated=("not {x}.endswith({0})",),
    ),
    Form(
        name="contains",
        takes=_STRING,
        draws=(LETTERS,),
        means=lambda x, c: c in x,
        says=("contain{s} {0}", "contain{s} the letter {0}"),
        code=("{0} in {inner}",),
        negated=("{0} not in {inner}",),
    ),
    Form(
        name="lacks",
        takes=_STRING,
        draws=(LETTERS,),
        means=lambda x, c: c not in x,
        says=("{do} not contain {0}",),
        code=("{0} not in {inner}",),
        negated=("{0} in {inner}",),
    ),
    Form(
        name="palindrome",
        takes=_STRING,
        means=lambda x: x == x[::-1],
        says=("read{s} the same backwards",),
        code=("{x} == {x}[::-1]",),
        negated=("{x} != {x}[::-1]",),
    ),
    Form(
        name="vowel",
        takes=(Kind.CHARACTER,),
        means=lambda c: c in "aeiou",
        says=("{be} among 'aeiou'",),
        code=("{inner} in 'aeiou'",),
        negated=("{inner} not in 'aeiou'",),
    ),
    Form(
        name="digit",
        takes=(Kind.CHARACTER,),
        means=lambda c: c.isdigit(),
        says=("{be} digits",),
        code=("{x}.isdigit()",),
        negated=("not {x}.isdigit()",),
    ),
    Form(
        name="letter",
        takes=(Kind.CHARACTER,),
        means=lambda c: c.isalpha(),
        says=("{be} letters",),
        code=("{x}.isalpha()",),
        negated=("not {x}.isalpha()",),
    ),
    Form(
        name="upper_case",
        takes=(Kind.CHARACTER,),
        means=lambda c: c.isupper(),
        says=("{be} in upper case",),
        code=("{x}.isupper()",),
        negated=("not {x}.isupper()",),
    ),
    Form(
        name="not_character",
        takes=(Kind.CHARACTER,),
        draws=(LETTERS + " ",),
        means=lambda c, d: c != d,
        says=("{be} not {0}", "{be} different from {0}"),
        code=("{inner} != {0}",),
        negated=("{inner} == {0}",),
    ),
    Form(
        name="among",
        takes=(Kind.CHARACTER,),
        draws=(("abc", "xyz", "str", "nml", "pqr", "eio"),),
        means=lambda c, s: c in s,
        says=("{be} among {0}", "occur{s} in {0}"),
        code=("{inner} in {0}",),
        negated=("{inner} not in {0}",),
    ),
)

MAPPINGS: tuple[Form, ...] = (
    Form(
        name="add",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(SMALL,),
        means=lambda x, k: x + k,
        says=("~add {0} to {it}", "~increase {it} by {0}"),
        participles=("increased by {0}", "plus {0}"),
        code=("{inner} + {0}",),
    ),
    Form(
        name="subtract",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(SMALL,),
        means=lambda x, k: x - k,
        says=("~subtract {0} from {it}", "~reduce {it} by {0}"),
        participles=("reduced by {0}", "minus {0}"),
        code=("{inner} - {0}",),
    ),
    Form(
        name="multiply",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(FACTORS,),
        means=lambda x, k: x * k,
        says=("~multiply {it} by {0}",),
        participles=("multiplied by {0}", "times {0}"),
        code=("{x} * {0}", "{0} * {x}"),
    ),
    Form(
        name="double",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        means=lambda x: x * 2,
        says=("~double {it}",),
        participles=("doubled",),
        code=("{x} * 2", "2 * {x}"),
    ),
    Form(
        name="square",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        means=lambda x: x**2,
        says=("~square {it}",),
        participles=("squared",),
        code=("{x} ** 2", "{x} * {x}"),
    ),
    Form(
        name="cube",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        means=lambda x: x**3,
        says=("~cube {it}",),
        participles=("cubed",),
        code=("{x} ** 3",),
    ),
    Form(
        name="negate",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        means=lambda x: -x,
        says=("~negate {it}", "~change the sign of {it}"),
        participles=("negated",),
        code=("-{x}",),
    ),
    Form(
        name="absolute",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        means=abs,
        says=("~take the absolute value of {it}",),
        participles=("without its sign",),
        code=("abs({inner})",),
    ),
    Form(
        name="modulo",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(FACTORS,),
        means=lambda x, k: x % k,
        says=("~reduce {it} modulo {0}", "~take {it} modulo {0}"),
        participles=("modulo {0}",),
        code=("{x} % {0}",),
    ),
    Form(
        name="quotient",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(FACTORS,),
        means=lambda x, k: x // k,
        says=("~floor-divide {it} by {0}",),
        participles=("floor-divided by {0}",),
        code=("{x} // {0}",),
    ),
    Form(
        name="halve",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        means=lambda x: x // 2,
        says=("~halve {it} (rounding down)",),
        participles=("halved (rounding down)",),
        code=("{x} // 2",),
    ),
    Form(
        name="from",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(SMALL,),
        means=lambda x, k: k - x,
        says=("~subtract {it} from {0}",),
        participles=("subtracted from {0}",),
        code=("{0} - {x}",),
    ),
    Form(
        name="cap",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(SMALL,),
        means=min,
        says=("~cap {it} at {0}", "~limit {it} to at most {0}"),
        participles=("capped at {0}", "limited to at most {0}"),
        code=("min({inner}, {0})",),
    ),
    Form(
        name="raise",
        takes=_NUMBER,
        gives=Kind.NUMBER,
        draws=(SMALL,),
        means=max,
        says=("~raise {it} to at least {0}",),
        participles=("raised to at least {0}",),
        code=("max({inner}, {0})",),
    ),
    Form(
        name="upper",
        takes=(*_STRING, Kind.CHARACTER),
        means=str.upper,
        says=("~turn {it} into upper case", "~upper-case {it}"),
        participles=("in upper case", "turned into upper case"),
        code=("{x}.upper()",),
    ),
    Form(
        name="lower",
        takes=(Kind.TEXT,),
        means=str.lower,
        says=("~turn {it} into lower case", "~lower-case {it}"),
        participles=("in lower case",),
        code=("{x}.lower()",),
    ),
    Form(
        name="capitalize",
        takes=_STRING,
        means=str.capitalize,
        says=("~capitalize {it}",),
        participles=("capitalized",),
        code=("{x}.capitalize()",),
    ),
    Form(
        name="swap_case",
        takes=(Kind.TEXT,),
        means=str.swapcase,
        says=("~swap the case of {it}",),
        participles=("with its case swapped",),
        code=("{x}.swapcase()",),
    ),
    Form(
        name="reverse",
        takes=_STRING,
        means=lambda x: x[::-1],
        says=("~reverse {it}", "~turn {it} around"),
        participles=("reversed", "spelt backwards"),
        code=("{x}[::-1]", "''.join(reversed({inner}))"),
    ),
    Form(
        name="first",
        takes=_STRING,
        draws=((2, 3, 4, 5),),
        means=lambda x, k: x[:k],
        says=("~cut {it} to the first {0} characters",),
        participles=("cut to the first {0} characters",),
        code=("{x}[:{0}]",),
    ),
    Form(
        name="last",
        takes=_STRING,
        draws=((2, 3, 4, 5),),
        means=lambda x, k: x[-k:],
        says=("~cut {it} to the last {0} characters",),
        participles=("cut to the last {0} characters",),
        code=("{x}[-{0}:]",),
    ),
    Form(
        name="without_first",
        takes=_STRING,
        draws=((1, 2, 3),),
        means=lambda x, k: x[k:],
        says=("~drop the first {0} characters of {it}",),
        participles=("without its first {0} characters",),
        code=("{x}[{0}:]",),
    ),
    Form(
        name="append",
        takes=(*_STRING, Kind.CHARACTER),
        draws=(SUFFIXES,),
        means=lambda x, s: x + s,
        says=("~add {0} to the end of {it}", "~append {0} to {it}"),
        participles=("followed by {0}",),
        code=("{inner} + {0}",),
    ),
    Form(
        name="prepend",
        takes=_STRING,
        draws=(("re", "un", "*", "#", "x-", "my"),),
        means=lambda x, s: s + x,
        says=("~put {0} in front of {it}",),
        participles=("preceded by {0}",),
        code=("{0} + {inner}",),
    ),
    Form(
        name="replace",
        takes=_STRING,
        draws=(LETTERS, LETTERS),
        means=lambda x, a, b: x.replace(a, b),
        says=("~replace {0} by {1} in {it}", "~change every {0} in {it} to {1}"),
        participles=("with {0} replaced by {1}",),
        code=("{x}.replace({0}, {1})",),
    ),
    Form(
        name="remove",
        takes=_STRING,
        draws=(LETTERS,),
        means=lambda x, a: x.replace(a, ""),
        says=("~remove every {0} from {it}",),
        participles=("without any {0}",),
        code=("{x}.replace({0}, '')",),
    ),
    Form(
        name="repeat",
        takes=(*_STRING, Kind.CHARACTER),
        draws=((2, 3, 4),),
        means=lambda x, k: x * k,
        says=("~repeat {it} {0} times",),
        participles=("repeated {0} times",),
        code=("{x} * {0}",),
    ),
    Form(
        name="length",
        takes=_STRING,
        gives=Kind.NUMBER,
        means=len,
        says=("~replace {it} by its length", "~take the length of {it}"),
        participles=("replaced by its length",),
        code=("len({inner})",),
    ),
    Form(
        name="occurrences",
        takes=_STRING,
        gives=Kind.NUMBER,
        draws=(LETTERS,),
        means=lambda x, c: x.count(c),
        says=("~replace {it} by its number of {0}", "~count the {0} in {it}"),
        participles=("replaced by its number of {0}",),
        code=("{x}.count({0})",),
    ),
    Form(
        name="word_count",
        takes=(Kind.TEXT,),
        gives=Kind.NUMBER,
        means=lambda x: len(x.split()),
        says=("~count the words in {it}",),
        participles=(),
        code=("len({x}.split())",),
    ),
)
