"""Whether a gate can pass with the examples there are, said before any training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evalsuite.errors import StatisticsError
from evalsuite.figures import GENERATION, LOSS, Figure
from evalsuite.records import Gate
from evalsuite.statistics import (
    clopper_pearson,
    normal_quantile,
    tango_interval,
)

# Share of items on which base and adapter are assumed to differ, where nothing is known yet.
DISCORDANCE = 0.1
POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What can be known about a gate before training.

    ``possible`` is False where not even the best result could pass with ``examples``; ``needed``
    is the number of examples for 80% power under the assumed discordance, where the figure's kind
    lets one say so; ``sentence`` is for the user.
    """

    gate: Gate
    examples: int
    possible: bool
    needed: int | None
    sentence: str

    @property
    def enough(self) -> bool:
        """Whether there are as many examples as the gate should have."""
        return self.possible and (self.needed is None or self.examples >= self.needed)


def examples_needed(
    margin: float,
    *,
    discordance: float = DISCORDANCE,
    confidence: float = 0.95,
    power: float = POWER,
) -> int:
    """Examples for a non-inferiority gate on a proportion: (z_confidence + z_power)²·ψ/m².

    Holds where the adapter truly equals the base. ψ is the share of items on which they differ.

    Raises:
        StatisticsError: ``margin`` is not positive.
    """
    if margin <= 0.0:
        raise StatisticsError(
            f"a margin of {margin} needs infinitely many examples; it must be more than 0."
        )
    quantiles = normal_quantile(confidence) + normal_quantile(power)
    # A billionth less, so that rounding does not ask for one example more.
    return math.ceil(quantiles**2 * discordance / margin**2 * (1.0 - 1e-9))


def can_pass(gate: Gate, examples: int, *, discordance: float = DISCORDANCE) -> Outlook:
    """Whether ``gate`` can pass at all with ``examples``, and how many it should have."""
    figure = _figure(gate.metric)
    best = _best_bound(gate, figure, examples)
    needed = None
    if gate.claim == "non_inferior" and gate.margin > 0.0 and figure and figure.kind == "binary":
        needed = examples_needed(gate.margin, discordance=discordance, confidence=gate.confidence)
    return Outlook(
        gate=gate,
        examples=examples,
        possible=_clears(gate, best),
        needed=needed,
        sentence=_sentence(gate, examples, best, needed, discordance),
    )


def too_few_examples(gate: Gate, examples: int) -> str | None:
    """Why ``examples`` are too few for ``gate`` to pass, or to pass with 80% power; None if not."""
    outlook = can_pass(gate, examples)
    return None if outlook.enough else outlook.sentence


def _figure(metric: str) -> Figure | None:
    name = metric.rsplit(".", 1)[-1]
    return LOSS.get(name) or GENERATION.get(name)


def _best_bound(gate: Gate, figure: Figure | None, examples: int) -> float:
    """The deciding end of the interval if the result were the best there can be.

    Measured toward the claimed side: for a ceiling the sign is turned. Infinite where the figure
    is unbounded, because then no number of examples rules the claim out.
    """
    if examples < 1 or (examples == 1 and (figure is None or figure.kind != "binary")):
        return -math.inf
    if figure is None:
        return math.inf
    tail = 1.0 - gate.confidence
    if gate.claim in ("floor", "ceiling"):
        return _best_value(gate, figure, examples, tail)
    if figure.span is None:
        return math.inf
    if figure.kind == "binary":
        return tango_interval(examples, 0, examples, tail)[0]
    return figure.span


def _best_value(gate: Gate, figure: Figure, examples: int, tail: float) -> float:
    sign = 1.0 if gate.claim == "floor" else -1.0
    best = figure.highest if gate.claim == "floor" else figure.lowest
    if best is None:
        return math.inf
    if figure.kind == "binary":
        return clopper_pearson(examples, examples, tail)[0] - (0.0 if sign > 0 else 1.0)
    return sign * best


def _clears(gate: Gate, bound: float) -> bool:
    if gate.claim == "floor":
        return gate.at is not None and bound >= gate.at
    if gate.claim == "ceiling":
        return gate.at is not None and bound >= -gate.at
    return bound > (gate.margin if gate.claim == "superior" else -gate.margin)


def _sentence(
    gate: Gate, examples: int, best: float, needed: int | None, discordance: float
) -> str:
    if math.isinf(best) and best < 0:
        return f"cannot pass: an interval needs at least 2 examples; this split has {examples:,}"
    if not _clears(gate, best):
        shown = -best if gate.claim == "ceiling" else best
        return (
            f"cannot pass: the best result possible on {examples:,} examples has the bound "
            f"{shown:.4g}"
        )
    if needed is not None and examples < needed:
        return (
            f"a margin of {gate.margin:g} at {discordance:.0%} discordance needs {needed:,} "
            f"examples; this split has {examples:,}"
        )
    return f"can pass with {examples:,} examples"
