"""Intervals cover and gates err as often as they say, in seeded simulations."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import binom, norm

from evalsuite import power
from evalsuite.bootstrap import corpus_estimate
from evalsuite.gates import judge_gate
from evalsuite.power import mean_power, proportion_power
from evalsuite.proportions import clopper_pearson, discordance_error, tango_interval
from evalsuite.records import Claim, Evidence, Gate, Identity, Measurement, PairedDifference
from evalsuite.statistics import (
    Estimate,
    Vector,
    item_mean,
    log_ratio,
    paired_item_mean,
    paired_ratio,
    ratio,
    t_quantile,
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


@pytest.mark.parametrize("count", [50, 300, pytest.param(2000, marks=pytest.mark.slow)])
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


@pytest.mark.slow
@pytest.mark.parametrize("count", [50, 300, 2000])
def test_the_paired_interval_covers_long(count: int) -> None:
    def interval(generator: np.random.Generator) -> Estimate:
        tokens, base, adapter = sample(generator, count)
        return paired_ratio(base, adapter, tokens)

    assert 0.93 <= coverage(0.8 * 1.5 + 0.1 - 1.5, interval, 6000, count) <= 0.97


def clustered_sample(generator: np.random.Generator, groups: int) -> tuple[Vector, ...]:
    """Clusters of 1 to 8 examples with skewed lengths that share most of their difficulty."""
    sizes = generator.integers(1, 9, groups)
    clusters = np.repeat(np.arange(groups), sizes)
    tokens, _, _ = sample(generator, len(clusters))
    shared = generator.gamma(9.0, 1.5 / 9.0, groups)[clusters]
    losses = tokens * (shared + generator.normal(0.0, 0.2, len(clusters)))
    return clusters, tokens, losses


def test_the_clustered_interval_covers_and_one_without_clusters_does_not() -> None:
    def interval(generator: np.random.Generator) -> Estimate:
        clusters, tokens, losses = clustered_sample(generator, 60)
        return ratio(losses, tokens, clusters=clusters.astype(np.intp))

    def alone(generator: np.random.Generator) -> Estimate:
        _, tokens, losses = clustered_sample(generator, 60)
        return ratio(losses, tokens)

    assert 0.92 <= coverage(1.5, interval, 1500, 11) <= 0.97
    assert coverage(1.5, alone, 500, 11) < 0.75


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


def wrong_passes(items: int, margins: Vector) -> dict[tuple[float, float], float]:
    """Exact probability that an adapter worse by just the margin passes, by margin and discordance.

    Discordance goes from the margin itself (nothing is gained) to every item.
    """
    found = {}
    for margin in margins.tolist():
        for discordance in {margin, *np.geomspace(1.01 * margin, 1.0, 12).tolist()}:
            gained, lost = (discordance - margin) / 2, (discordance + margin) / 2
            found[margin, discordance] = proportion_power(
                items, -margin, gained=max(gained, 0.0), lost=min(lost, 1.0)
            )
    return found


@pytest.mark.parametrize("items", [50, 300, 2000])
def test_an_inferior_adapter_at_the_margin_seldom_passes(items: int) -> None:
    """Exactly, not by simulation: over all tables, many margins and every discordance."""
    found = wrong_passes(items, np.geomspace(2.0 / items, 0.6, 40 if items < 2000 else 12))
    assert max(found.values()) <= 0.055
    usual = [rate for (_, discordance), rate in found.items() if discordance <= 0.7]
    assert max(usual) <= 0.0505
    # Not by refusing everything: at its worst it passes about as often as it may.
    assert max(usual) > 0.04


@pytest.mark.parametrize("items", [50, 300, 2000])
def test_without_the_correction_it_would_pass_too_often(
    items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few discordant items, however many items there are: e^-2.706 is 6.7%."""
    monkeypatch.setattr(power, "continuity_correction", lambda *_: 0.0)
    margins = np.array([2.71, 2.8, 2.9]) / items
    assert max(wrong_passes(items, margins).values()) > 0.06


def test_the_exact_power_is_the_multinomials() -> None:
    limits = {
        (g, b): tango_interval(g, b, 50, 0.05, correction=1.0 if g + b == 50 else 0.5)[0]
        for g, b in all_tables(50, 51)
    }
    for margin, discordance in ((0.02, 0.1), (0.1, 0.25), (0.05, 0.4)):
        shares = {"gained": (discordance - margin) / 2, "lost": (discordance + margin) / 2}
        exact = wrong_pass(50, margin, discordance, limits)
        assert proportion_power(50, -margin, **shares) == pytest.approx(exact, abs=1e-9)


def test_walds_interval_would_pass_it_far_too_often() -> None:
    def wald(gained: int, lost: int) -> float:
        error = np.sqrt(gained + lost - (gained - lost) ** 2 / 50) / 50
        return (gained - lost) / 50 - norm.ppf(0.95) * float(error)

    limits = {(g, b): wald(g, b) for g, b in all_tables(50, 51)}
    assert wrong_pass(50, 0.03, 0.0301, limits) > 0.2
    assert proportion_power(50, -0.03, gained=0.00005, lost=0.03005) < 0.02


@pytest.mark.parametrize("items", [50, 300, 2000])
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


@pytest.mark.parametrize("claim", ["non_inferior", "superior"])
@pytest.mark.parametrize("items", [50, 300])
def test_the_power_on_right_or_wrong_items_is_as_predicted(
    items: int, claim: str, identity: Identity
) -> None:
    """The gate itself, on simulated evaluations, against what `plan` computes."""
    gained, lost = (0.06, 0.05) if claim == "non_inferior" else (0.25, 0.05)
    margin, repeats = 0.08, 2000
    drawn = np.random.default_rng(items).multinomial(
        items, [gained, lost, 1 - gained - lost], size=repeats
    )
    tables, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    gate = Gate(metric="answers.exact_match", claim=cast("Claim", claim), margin=margin)
    passed = sum(
        count
        for (g, b), count in zip(tables.tolist(), counts.tolist(), strict=True)
        if judge_gate(gate, evidence_of(g, b, items, identity)).verdict == "PASS"
    )
    line = -margin if claim == "non_inferior" else margin
    expected = proportion_power(items, line, gained=gained, lost=lost)
    assert 0.1 < expected < 0.999
    assert passed / repeats == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("items", [50, 300])
def test_the_power_on_scores_is_as_predicted(items: int) -> None:
    """Skewed scores between 0 and 1, and an adapter that equals the base on average."""
    generator = np.random.default_rng(items)
    margin = 0.65 / np.sqrt(items)
    passed, repeats, spreads = 0, 1500, []
    for _ in range(repeats):
        before = generator.beta(0.7, 1.5, items)
        after = np.clip(before + generator.normal(0.0, 0.25, items), -1.0, 2.0)
        found = paired_item_mean(before, after, span=1.0)
        spreads.append(float(np.std(after - before)))
        passed += found.value - t_quantile(0.95, items - 1) * found.standard_error > -margin
    expected = mean_power(items, margin, float(np.mean(spreads)))
    assert 0.5 < expected < 0.95
    assert passed / repeats == pytest.approx(expected, abs=0.05)
