"""Wording that occurs in the data set's instructions and never in the pretraining text.

Here lies what fine-tuning teaches: the base knows what is done to numbers, texts and
dictionaries, but has not met these names for it. Keys are the names of the pieces of a
specification; a phrase has the placeholders of the ones it stands in for.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

PHRASES: dict[str, tuple[str, ...]] = {
    # conditions, after "that"
    "greater": ("exceed{s} {0}", "{be} bigger than {0}"),
    "less": ("stay{s} under {0}", "fall{s} short of {0}"),
    "at_least": ("{be} no less than {0}", "{do} not stay under {0}"),
    "at_most": ("{be} no more than {0}", "{do} not exceed {0}"),
    "between": ("sit{s} within {0} to {1}", "range{s} from {0} through {1}"),
    "even": ("split{s} evenly in two", "{be} twice an integer"),
    "odd": ("{do} not split evenly in two", "{be} one more than twice an integer"),
    "divisible": ("{have} {0} as a factor", "{be} in the {0} times table"),
    "indivisible": ("{do} not have {0} as a factor", "{be} outside the {0} times table"),
    "remainder_is": ("{be} congruent to {1} modulo {0}", "exceed{s} a multiple of {0} by {1}"),
    "positive": ("{be} over zero",),
    "negative": ("{be} under zero", "carr{ies} a minus sign"),
    "different": ("differ{s} from {0}", "{be} anything but {0}"),
    "ends_in": ("show{s} {0} in the ones place", "{have} {0} as last digit"),
    "longer": ("{have} a length over {0}", "run{s} past {0} letters"),
    "shorter": ("{have} a length under {0}", "{do} not reach {0} letters"),
    "of_length": ("{have} length {0}", "consist{s} of {0} letters"),
    "starts": ("{have} {0} as first letter", "open{s} with {0}"),
    "ends": ("{have} {0} as last letter", "close{s} with {0}"),
    "contains": ("{have} {0} somewhere", "include{s} {0}"),
    "lacks": ("{be} free of {0}", "{have} no {0}"),
    "palindrome": ("{be} palindromic", "mirror{s} onto themselves"),
    "vowel": ("{be} vowels",),
    "digit": ("{be} numerals",),
    "letter": ("{be} alphabetic",),
    "upper_case": ("{be} capitals",),
    "not_character": ("{be} anything but {0}",),
    "among": ("belong{s} to the set {0}",),
    # mappings, as clauses
    "add": ("~raise {it} by {0}", "~shift {it} up by {0}"),
    "subtract": ("~lower {it} by {0}", "~take {0} off {it}"),
    "multiply": ("~scale {it} by {0}", "~make {it} {0} times as large"),
    "double": ("~add {it} to itself", "~scale {it} by two"),
    "square": ("~multiply {it} by itself", "~raise {it} to the second power"),
    "cube": ("~raise {it} to the third power",),
    "negate": ("~flip the sign of {it}", "~multiply {it} by minus one"),
    "absolute": ("~drop any minus sign of {it}", "~measure how far {it} is from zero"),
    "modulo": ("~keep the remainder of {it} after division by {0}",),
    "quotient": ("~work out how often {0} fits into {it}", "~divide {it} by {0}, no fractions"),
    "halve": ("~cut {it} in half (rounded down)",),
    "from": ("~work out {0} minus {it}", "~find what {it} is missing to {0}"),
    "cap": ("~clip {it} from above at {0}", "~let {it} not exceed {0}"),
    "raise": ("~clip {it} from below at {0}", "~let {it} not fall under {0}"),
    "upper": ("~write {it} in capitals", "~shout {it}"),
    "lower": ("~write {it} in small letters",),
    "capitalize": ("~give {it} a capital first letter and small others",),
    "swap_case": ("~exchange small and capital letters in {it}",),
    "reverse": ("~mirror {it}", "~write {it} from right to left"),
    "first": ("~shorten {it} to its leading {0} characters",),
    "last": ("~shorten {it} to its trailing {0} characters",),
    "without_first": ("~strip {it} of its leading {0} characters",),
    "append": ("~attach {0} behind {it}",),
    "prepend": ("~attach {0} before {it}",),
    "replace": ("~swap {0} for {1} in {it}", "~put {1} wherever {it} has {0}"),
    "remove": ("~erase all {0} in {it}", "~strip {it} of {0}"),
    "repeat": ("~write {it} {0} times in a row",),
    "length": ("~measure how long {it} is",),
    "occurrences": ("~find how often {it} has {0}",),
    "word_count": ("~find how many words {it} has",),
    # mappings, after "each"
    "add participle": ("raised by {0}", "shifted up by {0}"),
    "subtract participle": ("lowered by {0}", "with {0} taken off"),
    "multiply participle": ("scaled by {0}", "made {0} times as large"),
    "double participle": ("added to itself", "scaled by two"),
    "square participle": ("multiplied by itself", "to the second power"),
    "cube participle": ("to the third power",),
    "negate participle": ("with its sign flipped", "multiplied by minus one"),
    "absolute participle": ("with any minus sign dropped",),
    "modulo participle": ("reduced to its remainder after division by {0}",),
    "quotient participle": ("replaced by how often {0} fits into it",),
    "halve participle": ("cut in half (rounded down)",),
    "from participle": ("taken off {0}",),
    "cap participle": ("clipped from above at {0}",),
    "raise participle": ("clipped from below at {0}",),
    "upper participle": ("written in capitals", "shouted"),
    "lower participle": ("written in small letters",),
    "capitalize participle": ("with a capital first letter and small others",),
    "reverse participle": ("mirrored", "written from right to left"),
    "first participle": ("shortened to its leading {0} characters",),
    "last participle": ("shortened to its trailing {0} characters",),
    "without_first participle": ("stripped of its leading {0} characters",),
    "append participle": ("with {0} attached behind",),
    "prepend participle": ("with {0} attached before",),
    "replace participle": ("with {1} in place of {0}",),
    "remove participle": ("stripped of {0}", "with all {0} erased"),
    "repeat participle": ("written {0} times in a row",),
    "length participle": ("measured in characters",),
    "occurrences participle": ("turned into how often it has {0}",),
    # what becomes of the elements, after "return"
    "list result": ("what remains", "everything in a list"),
    "sum result": ("everything added up", "the grand total"),
    "product result": ("everything multiplied together",),
    "count result": ("the size of what remains",),
    "max result": ("the maximum, falling back on {0}",),
    "min result": ("the minimum, falling back on {0}",),
    "sorted result": ("everything from lowest to highest",),
    "descending result": ("everything from highest to lowest",),
    "distinct result": ("how many distinct ones there are",),
    "first_few result": ("the leading {0}",),
    "last_few result": ("the trailing {0}",),
    "backwards result": ("everything last to first",),
    "join result": ("everything glued together with {0}",),
    "longest result": ("the one with most letters, falling back on {0}",),
    "tally result": ("a histogram",),
    "lengths result": ("a mapping from each to its size",),
    "by_length result": ("everything bucketed by size",),
    "by_remainder result": ("everything bucketed by remainder for {0}",),
    "running result": ("the cumulative sums",),
    # the same, before the elements
    "list noun": ("every one of",),
    "sum noun": ("the grand total of",),
    "count noun": ("the size of the group of",),
    "max noun": ("the maximum (falling back on {0}) of",),
    "min noun": ("the minimum (falling back on {0}) of",),
    "sorted noun": ("an ascending list of",),
    "descending noun": ("a descending list of",),
    "distinct noun": ("how many distinct ones there are of",),
    "first_few noun": ("the leading {0} of",),
    "last_few noun": ("the trailing {0} of",),
    "backwards noun": ("a list, last to first, of",),
    "join noun": ("a string glued with {0} from",),
    "tally noun": ("a histogram of",),
    # where elements come from
    "numbers": ("every number of {0}", "what {0} has"),
    "up_to": ("the integers 1 through {0}",),
    "below": ("the integers from 0 that stay under {0}",),
    "digits": ("the figures that make up {0}",),
    "table_values": ("what {0} stores",),
    "pair_products": ("{0} times {1}, position by position",),
    "pair_differences": ("{0} minus {1}, position by position",),
    "steps": ("each increase from one element of {0} to the next",),
    "weighted": ("the elements of {0}, each times its position,",),
    "lookups": ("what {1} holds for each of {0} (0 if absent)",),
    "words": ("every string of {0}",),
    "split": ("the parts of {0} between spaces",),
    "table_keys": ("the names in {0}",),
    "characters": ("the single signs of {0}",),
    # verbs
    "keep": ("~retain just those that", "~filter for those that"),
    "drop": ("~discard those that", "~ignore the ones that"),
    # repetitions
    "steps goal": ("the length of the way",),
    "last goal": ("the number that ends it",),
    "visited goal": ("the trail of numbers",),
    "sum goal": ("the trail added up",),
    # dictionaries
    "table entries": ("the updated mapping",),
    "keys entries": ("the names in order",),
    "values entries": ("what is stored",),
    "total entries": ("the grand total of what is stored",),
    "swapped entries": ("the inverted mapping",),
    "pairs entries": ("the items in a list",),
}


class Voice:
    """Chooses among ways to say a thing: with probability ``unseen`` from the phrasebook."""

    def __init__(self, rng: Random, unseen: float = 0.0) -> None:
        self._rng = rng
        self._unseen = unseen

    def choice(self, known: Sequence[str]) -> str:
        """One of ``known``."""
        return self._rng.choice(known)

    def random(self) -> float:
        """A number from 0 to below 1."""
        return self._rng.random()

    def phrase(self, name: str, known: Sequence[str]) -> str:
        """A phrase for the piece ``name``: one of ``known``, or one that pretraining lacks."""
        unseen = PHRASES.get(name)
        # without unseen wording no number is drawn, so that the pretraining text is what it was
        if unseen and self._unseen and self._rng.random() < self._unseen:
            return self._rng.choice(unseen)
        return self._rng.choice(known)
