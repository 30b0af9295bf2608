"""Intervals cover and gates err as often as they say, in seeded simulations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import binom, norm

from evalsuite.bootstrap import corpus_estimate
from evalsuite.gates import judge_gate
from evalsuite.records import Evidence, Gate, Identity, Measurement, PairedDifference
from evalsuite.statistics import (
    Estimate,
    Vector,
    clopper_pearson,
    discordance_error,
    item_mean,
    log_ratio,
    paired_ratio,
    ratio,
    tango_interval,
)

Sample = tuple[Vector, Vector, Vector]


def sample(generator: np.random.Generator, count: int) -> Sample:
    """Tokens, base and adapter losses of examples with skewed lengths and hard examples.

    The tokens of one example share its difficulty, which is why they are no independent draws.
    """
    tokens = np.ceil(generator.lognormal(4.0, 0.6, count))
    difficulty = generator.gamma(9.0, 1.5 / 9.0, count)
    noise = generator.normal(0.0, 0.3, (2, count)) / np.sqrt(tokens)
    base = tokens * (difficulty + noise[0])
    adapter = tokens * (0.8 * difficulty + 0.1 + noise[1])
    return tokens, base, adapter


def coverage(
    truth: float, interval: Callable[[np.random.Generator], Estimate], repeats: int, seed: int
) -> float:
    generator = np.random.default_rng(seed)
    found = (interval(generator) for _ in range(repeats))
    return sum(one.low <= truth <= one.high for one in found) / repeats


@pytest.mark.parametrize("count", [50, 300])
def test_the_loss_interval_covers(count: int) -> None:
    def interval(generator: np.random.Generator) -> Estimate:
        tokens, base, _ = sample(generator, count)
        return ratio(base, tokens)

    assert 0.93 <= coverage(1.5, interval, 1500, 1) <= 0.97


def test_the_perplexity_interval_covers() -> None:
    def interval(generator: np.random.Generator) -> Estimate:
        tokens, base, _ = sample(generator, 200)
        return log_ratio(base, tokens)

    assert 0.93 <= coverage(float(np.exp(1.5)), interval, 1500, 2) <= 0.97


def test_the_paired_interval_covers_and_is_narrower() -> None:
    widths: list[float] = []

    def interval(generator: np.random.Generator) -> Estimate:
        tokens, base, adapter = sample(generator, 100)
        paired = paired_ratio(base, adapter, tokens)
        alone = ratio(adapter, tokens)
        widths.append((alone.high - alone.low) / (paired.high - paired.low))
        return paired

    assert 0.93 <= coverage(0.8 * 1.5 + 0.1 - 1.5, interval, 1500, 3) <= 0.97
    assert np.mean(widths) > 3


def test_tokens_taken_as_independent_would_not_cover() -> None:
    """The error of other harnesses: √(variance per token / tokens) covers far too seldom."""

    def interval(generator: np.random.Generator) -> Estimate:
        tokens, base, _ = sample(generator, 100)
        value = base.sum() / tokens.sum()
        spread = np.sum(tokens * (base / tokens - value) ** 2) / tokens.sum()
        error = float(np.sqrt(spread / tokens.sum()))
        return Estimate(
            value=value, standard_error=error, degrees_of_freedom=99,
            low=value - 1.96 * error, high=value + 1.96 * error,
        )  # fmt: skip

    assert coverage(1.5, interval, 500, 4) < 0.6


def test_item_means_cover() -> None:
    def interval(generator: np.random.Generator) -> Estimate:
        return item_mean(generator.beta(0.7, 1.5, 60), span=1.0)

    assert 0.93 <= coverage(0.7 / 2.2, interval, 1500, 5) <= 0.97


def test_the_bootstrap_covers() -> None:
    def interval(generator: np.random.Generator) -> Estimate:
        tokens, base, _ = sample(generator, 60)
        pairs = np.stack([base, tokens], axis=1)
        return corpus_estimate(pairs, lambda t: np.asarray(t[:, 0] / t[:, 1]), span=100.0)

    assert 0.91 <= coverage(1.5, interval, 250, 6) <= 0.985


@pytest.mark.parametrize("items", [20, 100])
def test_clopper_pearson_never_covers_too_seldom(items: int) -> None:
    limits = [clopper_pearson(right, items) for right in range(items + 1)]
    for truth in np.linspace(0.01, 0.99, 50):
        covering = [low <= truth <= high for low, high in limits]
        assert binom.pmf(np.arange(items + 1), items, truth)[covering].sum() >= 0.95


def wrong_pass(
    items: int, margin: float, discordance: float, limits: dict[tuple[int, int], float]
) -> float:
    """Exact probability that a truly inferior adapter at the margin passes (multinomial)."""
    gained_share, lost_share = (discordance - margin) / 2, (discordance + margin) / 2
    passing = np.array([table for table, low in limits.items() if low > -margin])
    gained, lost = passing[:, 0], passing[:, 1]
    rest = items - gained - lost
    coefficient = gammaln(items + 1) - gammaln(gained + 1) - gammaln(lost + 1) - gammaln(rest + 1)
    logs = gained * np.log(gained_share) + lost * np.log(lost_share) + rest * np.log1p(-discordance)
    return float(np.exp(coefficient + logs).sum())


def all_tables(items: int, most: int) -> list[tuple[int, int]]:
    return [(g, b) for g in range(most) for b in range(most) if g + b <= items]


def test_an_inferior_adapter_at_the_margin_seldom_passes() -> None:
    """Exactly, not by simulation: every table of 50 items."""
    limits = {(g, b): tango_interval(g, b, 50, 0.05)[0] for g, b in all_tables(50, 51)}
    for margin in (0.02, 0.05, 0.1):
        for discordance in (1.5 * margin, 2 * margin, 0.25, 0.4):
            assert wrong_pass(50, margin, discordance, limits) <= 0.06


def test_walds_interval_would_pass_it_far_too_often() -> None:
    def wald(gained: int, lost: int) -> float:
        error = np.sqrt(gained + lost - (gained - lost) ** 2 / 50) / 50
        return (gained - lost) / 50 - norm.ppf(0.95) * float(error)

    limits = {(g, b): wald(g, b) for g, b in all_tables(50, 51)}
    assert wrong_pass(50, 0.03, 0.0301, limits) > 0.2
    tango = {(g, b): tango_interval(g, b, 50, 0.05)[0] for g, b in all_tables(50, 51)}
    assert wrong_pass(50, 0.03, 0.0301, tango) < 0.02


@pytest.mark.parametrize("items", [50, 300, pytest.param(2000, marks=pytest.mark.slow)])
def test_wrong_passes_of_the_gate_itself(items: int, identity: Identity) -> None:
    margin, discordance, repeats = 0.05, 0.2, 3000
    shares = [(discordance - margin) / 2, (discordance + margin) / 2, 1 - discordance]
    drawn = np.random.default_rng(items).multinomial(items, shares, size=repeats)
    tables, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    gate = Gate(metric="answers.exact_match", claim="non_inferior", margin=margin)
    passed = 0
    for (gained, lost), count in zip(tables.tolist(), counts.tolist(), strict=True):
        evidence = evidence_of(gained, lost, items, identity)
        passed += count * (judge_gate(gate, evidence).verdict == "PASS")
    assert passed / repeats <= 0.06


def evidence_of(gained: int, lost: int, items: int, identity: Identity) -> Evidence:
    difference = PairedDifference(
        metric="answers.exact_match", difference=(gained - lost) / items,
        standard_error=discordance_error(gained, lost, items), low=0.0, high=0.0,
        degrees_of_freedom=items - 1, examples=items, method="binary-items",
        gained=gained, lost=lost,
    )  # fmt: skip
    measurement = Measurement(
        metric="answers.exact_match", subject="adapter", value=0.5, standard_error=0.1, low=0.3,
        high=0.7, degrees_of_freedom=items - 1, examples=items, unit="", higher_is_better=True,
        method="binary-items",
    )  # fmt: skip
    return Evidence(
        measurements=(measurement,), differences=(difference,), leaked=(), identity=identity,
        base_digest="b", adapter_digest="a",
    )  # fmt: skip


def test_an_equal_loss_seldom_passes_as_superior(identity: Identity) -> None:
    """The gate's one-sided level on a paired loss with skewed lengths and no true difference."""
    generator = np.random.default_rng(8)
    passed = 0
    for _ in range(1500):
        tokens, base, _ = sample(generator, 100)
        twin = base + tokens * generator.normal(0.0, 0.2, 100)
        estimate = paired_ratio(base, twin, tokens)
        passed += estimate.value + 1.6604 * estimate.standard_error < 0.0
    assert 0.03 <= passed / 1500 <= 0.07
