"""What can be known about a gate before any training: whether it can pass, and how likely."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from evalsuite.figures import Figure, figure_named
from evalsuite.gate_question import PAIRED_CLAIMS
from evalsuite.power import (
    DISCORDANCE,
    POWER,
    examples_needed,
    mean_power,
    proportion_power,
)
from evalsuite.proportions import clopper_pearson, continuity_correction, tango_interval
from evalsuite.records import Gate
from evalsuite.statistics import normal_quantile, t_quantile

# Standard deviation between items of a score's difference that is assumed, in spans of the score.
SPREAD = 0.25
_BISECTIONS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What can be known about a gate before training.

    ``possible`` is False where not even the best result could pass with ``examples``. ``power`` is
    the probability that an adapter equal to what it is compared with passes as not inferior, and
    ``needed`` the number of examples for 80%, both under the assumption that ``sentence`` names.
    ``detectable`` is the true value (floor, ceiling) or gain (superior) that passes in 80% of
    evaluations. Each is None where the figure's kind does not let one say so.
    """

    gate: Gate
    examples: int
    possible: bool
    needed: int | None
    power: float | None
    detectable: float | None
    sentence: str

    @property
    def enough(self) -> bool:
        """Whether there are as many examples as the gate should have."""
        return self.possible and (self.needed is None or self.examples >= self.needed)


def can_pass(gate: Gate, examples: int, *, discordance: float = DISCORDANCE) -> Outlook:
    """Whether ``gate`` can pass at all with ``examples``, how likely, and what it could show."""
    figure = figure_named(gate.metric.rpartition(".")[2])
    best = _best_bound(gate, figure, examples)
    possible = _clears(gate, best)
    needed, power, detectable = None, None, None
    if possible and figure is not None:
        if gate.claim == "non_inferior" and gate.margin > 0.0:
            needed, power = _of_equal(gate, figure, examples, discordance)
        else:
            detectable = _detectable(gate, figure, examples, discordance)
    return Outlook(
        gate=gate,
        examples=examples,
        possible=possible,
        needed=needed,
        power=power,
        detectable=detectable,
        sentence=_sentence(gate, figure, examples, best, (needed, power, detectable), discordance),
    )


def too_few_examples(gate: Gate, examples: int) -> str | None:
    """Why ``examples`` are too few for ``gate`` to pass, or to pass with 80% power; None if not."""
    outlook = can_pass(gate, examples)
    return None if outlook.enough else outlook.sentence


def _of_equal(
    gate: Gate, figure: Figure, examples: int, discordance: float
) -> tuple[int | None, float | None]:
    """Examples needed and power of a non-inferiority gate, if the adapter equals the base."""
    confidence, margin = gate.confidence, gate.margin
    if figure.kind == "binary":
        half = discordance / 2.0
        return (
            examples_needed(margin, discordance=discordance, confidence=confidence),
            proportion_power(examples, -margin, gained=half, lost=half, confidence=confidence),
        )
    if figure.kind == "mean" and figure.span is not None:
        spread = SPREAD * figure.span
        quantiles = normal_quantile(confidence) + normal_quantile(POWER)
        needed = math.ceil((quantiles * spread / margin) ** 2) + 1
        return needed, mean_power(examples, margin, spread, confidence=confidence)
    return None, None


def _detectable(gate: Gate, figure: Figure, examples: int, discordance: float) -> float | None:
    """The true value or gain that passes in 80% of evaluations."""
    if figure.kind == "binary":
        if gate.claim in PAIRED_CLAIMS:
            return _detectable_gain(gate, examples, discordance / 2.0)
        return _detectable_share(gate, examples)
    if figure.kind == "mean" and figure.span is not None:
        spread = SPREAD * figure.span
        reach = _standard_deviations(gate, examples) * spread
        line = gate.at if gate.claim not in PAIRED_CLAIMS else gate.margin
        found = (line or 0.0) + (-reach if gate.claim == "ceiling" else reach)
        return found if _can_be(found, gate, figure) else None
    return None


def _can_be(value: float, gate: Gate, figure: Figure) -> bool:
    """Whether a figure can have ``value``, or where the gate compares, can gain it."""
    low, high = (
        (0.0, figure.span) if gate.claim in PAIRED_CLAIMS else (figure.lowest, figure.highest)
    )
    return (low is None or value >= low) and (high is None or value <= high)


def _standard_deviations(gate: Gate, examples: int) -> float:
    """How far beyond the line 80% power lies, in standard deviations between examples."""
    quantiles = t_quantile(gate.confidence, examples - 1) + t_quantile(POWER, examples - 1)
    return quantiles / math.sqrt(examples)


def _detectable_gain(gate: Gate, examples: int, lost: float) -> float | None:
    """The smallest gain with 80% power where a share ``lost`` of the items is lost."""

    def power(gain: float) -> float:
        return proportion_power(
            examples, gate.margin, gained=lost + gain, lost=lost, confidence=gate.confidence
        )

    return _smallest(power, gate.margin, 1.0 - 2.0 * lost)


def _smallest(power: Callable[[float], float], low: float, high: float) -> float | None:
    """The smallest effect in ``low`` to ``high`` with 80% power; None where there is none."""
    if high <= low or power(high) < POWER:
        return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def _detectable_share(gate: Gate, examples: int) -> float | None:
    """The true share from which a floor (or below which a ceiling) passes four times in five.

    With k right items needed, P(X >= k) = I_p(k, n - k + 1), the regularised incomplete beta.
    """
    from scipy.special import betaincinv

    tail = 1.0 - gate.confidence
    floor = gate.at or 0.0 if gate.claim == "floor" else 1.0 - (gate.at or 0.0)
    counts = range(examples + 1)
    needed = next((k for k in counts if clopper_pearson(k, examples, tail)[0] >= floor), None)
    if needed is None:
        return None
    share = float(betaincinv(needed, examples - needed + 1, POWER)) if needed else 0.0
    return share if gate.claim == "floor" else 1.0 - share


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
        correction = float(continuity_correction(examples, 0, examples))
        return tango_interval(examples, 0, examples, tail, correction=correction)[0]
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


def _sentence(  # noqa: PLR0917 - everything that one sentence is about
    gate: Gate,
    figure: Figure | None,
    examples: int,
    best: float,
    found: tuple[int | None, float | None, float | None],
    discordance: float,
) -> str:
    needed, power, detectable = found
    if math.isinf(best) and best < 0:
        return f"cannot pass: an interval needs at least 2 examples; this split has {examples:,}"
    if not _clears(gate, best):
        shown = -best if gate.claim == "ceiling" else best
        return (
            f"cannot pass: the best result possible on {examples:,} examples has the bound "
            f"{shown:.4g}"
        )
    binary = figure is not None and figure.kind == "binary"
    assumed = f"{discordance:.0%} discordance"
    if not binary and figure is not None and figure.span is not None:
        assumed = f"a standard deviation of {SPREAD * figure.span:g} between examples"
    if needed is not None and power is not None:
        enough = f"an adapter equal to the {gate.against} passes {power:.0%} of the time"
        if examples >= needed:
            return f"can pass with {examples:,} examples: at {assumed} {enough}"
        return (
            f"a margin of {gate.margin:g} at {assumed} needs {needed:,} examples; this split has "
            f"{examples:,}, and {enough}"
        )
    return f"can pass with {examples:,} examples{_effect(gate, figure, examples, detectable)}"


def _effect(gate: Gate, figure: Figure | None, examples: int, detectable: float | None) -> str:
    """What true effect would pass in 80% of evaluations."""
    if figure is None:
        return ""
    if detectable is None and figure.kind in ("binary", "mean") and figure.span is not None:
        what = "gain" if gate.claim in PAIRED_CLAIMS else "value"
        return f": less than four times in five, whatever the true {what}"
    if detectable is None:
        deviations = _standard_deviations(gate, examples)
        if not math.isfinite(deviations):
            return ""
        return (
            ": four times in five where the true figure lies beyond the line by "
            f"{deviations:.2g} of the standard deviation between examples"
        )
    if gate.claim in PAIRED_CLAIMS:
        lost = f" while {DISCORDANCE / 2:.0%} are lost" if figure.kind == "binary" else ""
        return f": four times in five at a true gain of {detectable:.3g}{lost}"
    return f": four times in five at a true value of {detectable:.3g}"
