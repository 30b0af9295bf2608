from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import proportions
from evalsuite import statistics as s
from evalsuite.errors import StatisticsError

RNG = np.random.default_rng(11)
TOKENS = RNG.lognormal(3.0, 1.0, 60).round() + 1
BASE = TOKENS * RNG.gamma(4.0, 0.4, 60)
ADAPTER = BASE * RNG.uniform(0.5, 0.9, 60)


def test_quantiles_are_scipys() -> None:
    from scipy import stats

    assert s.t_quantile(0.975, 7) == pytest.approx(stats.t.ppf(0.975, 7))
    assert s.normal_quantile(0.95) == pytest.approx(stats.norm.ppf(0.95))
    assert s.t_quantile(0.975, 0) == math.inf


def test_the_ratio_is_statsmodels_weighted_mean_with_robust_errors() -> None:
    """Loss per token is the intercept of per-example losses weighted by tokens, with HC1."""
    import statsmodels.api as sm

    fit = sm.WLS(BASE / TOKENS, np.ones_like(TOKENS), weights=TOKENS).fit(
        cov_type="HC1", use_t=True
    )
    low, high = fit.conf_int()[0]
    found = s.ratio(BASE, TOKENS)
    assert found.value == pytest.approx(BASE.sum() / TOKENS.sum())
    assert found.standard_error == pytest.approx(fit.bse[0])
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.degrees_of_freedom == 59


def test_the_loss_is_weighted_by_tokens() -> None:
    found = s.ratio([10.0, 1000.0], [1.0, 1000.0])
    assert found.value == pytest.approx(1010 / 1001)
    assert found.value != pytest.approx((10 / 1 + 1000 / 1000) / 2)


def test_the_paired_ratio_is_the_ratio_of_differences() -> None:
    paired = s.paired_ratio(BASE, ADAPTER, TOKENS)
    assert paired.value == pytest.approx(
        s.ratio(ADAPTER, TOKENS).value - s.ratio(BASE, TOKENS).value
    )
    assert paired == s.ratio(ADAPTER - BASE, TOKENS)


def test_perplexity_is_weighted_by_tokens() -> None:
    """lm-eval's `perplexity` exponentiates the mean sequence log-likelihood: 7e86, not 7.39."""
    found = s.log_ratio([200.0, 200.0], [100.0, 100.0])
    assert found.value == pytest.approx(math.exp(2.0))
    loss, perplexity = s.ratio(BASE, TOKENS), s.log_ratio(BASE, TOKENS)
    assert perplexity.low == pytest.approx(math.exp(loss.low))
    assert perplexity.high == pytest.approx(math.exp(loss.high))
    assert perplexity.standard_error == pytest.approx(math.exp(loss.value) * loss.standard_error)


def test_the_difference_of_perplexities_has_the_jackknifes_error() -> None:
    def difference(keep: np.ndarray) -> float:
        tokens = TOKENS[keep].sum()
        return math.exp(ADAPTER[keep].sum() / tokens) - math.exp(BASE[keep].sum() / tokens)

    everyone = np.arange(60)
    left_out = np.array([difference(np.delete(everyone, i)) for i in everyone])
    jackknife = math.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    found = s.paired_log_ratio(BASE, ADAPTER, TOKENS)
    assert found.value == pytest.approx(difference(everyone))
    assert found.standard_error == pytest.approx(jackknife, rel=0.1)


def test_an_end_beyond_floating_point_is_infinite() -> None:
    found = s.log_ratio([1.0, 500.0], [1.0, 1.0])
    assert (found.low, found.high) == (pytest.approx(0.0), math.inf)


def test_perplexity_beyond_floating_point_is_an_error() -> None:
    with pytest.raises(StatisticsError, match="beyond floating point"):
        s.log_ratio([800.0, 800.0], [1.0, 1.0])


def test_item_means_are_scipys() -> None:
    from scipy import stats

    values = RNG.uniform(size=25)
    found = s.item_mean(values)
    assert found.standard_error == pytest.approx(stats.sem(values))
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_paired_item_means_are_scipys() -> None:
    from scipy import stats

    before, after = RNG.uniform(size=25), RNG.uniform(size=25)
    test = stats.ttest_rel(after, before)
    found = s.paired_item_mean(before, after)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    p_value = s.t_test(found.value, found.standard_error, found.degrees_of_freedom)
    assert p_value == pytest.approx(test.pvalue)


def test_clustered_means_are_statsmodels() -> None:
    import statsmodels.api as sm

    clusters = RNG.integers(0, 9, 50)
    values = RNG.normal(size=50) + clusters
    fit = sm.OLS(values, np.ones(50)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
    )
    found = s.item_mean(values, clusters=clusters)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(fit.bse[0])
    assert found.degrees_of_freedom == 8
    assert found.standard_error > 2 * s.item_mean(values).standard_error


def clustered(generator: np.random.Generator, items: int, groups: int) -> tuple[np.ndarray, ...]:
    """Clusters, tokens, and losses of base and adapter that share a part within a cluster."""
    clusters = generator.integers(0, groups, items)
    tokens = generator.integers(5, 90, items).astype(float)
    shared = generator.normal(1.5, 0.4, groups)[clusters]
    base = tokens * (shared + generator.normal(0.0, 0.1, items))
    adapter = base - tokens * (0.2 * shared + generator.normal(0.0, 0.05, items))
    return clusters, tokens, base, adapter


def statsmodels_clustered(
    values: np.ndarray, weights: np.ndarray, clusters: np.ndarray
) -> tuple[float, float, float, float]:
    import statsmodels.api as sm

    fit = sm.WLS(values / weights, np.ones_like(weights), weights=weights).fit(
        cov_type="cluster",
        cov_kwds={"groups": clusters, "use_correction": True},
        use_t=True,
    )
    # statsmodels multiplies by (n - 1)/(n - k) as well, which is 1 for one parameter.
    return float(fit.params[0]), float(fit.bse[0]), *map(float, fit.conf_int()[0])


def test_clustered_ratios_are_statsmodels() -> None:
    clusters, tokens, base, adapter = clustered(RNG, 80, 12)
    for found, numerators in (
        (s.ratio(base, tokens, clusters=clusters), base),
        (s.paired_ratio(base, adapter, tokens, clusters=clusters), adapter - base),
    ):
        expected = statsmodels_clustered(numerators, tokens, clusters)
        values = (found.value, found.standard_error, found.low, found.high)
        assert values == pytest.approx(expected)
        assert found.degrees_of_freedom == 11
    alone = s.ratio(base, tokens)
    assert s.ratio(base, tokens, clusters=clusters).standard_error > 1.5 * alone.standard_error


def test_clustered_paired_means_are_statsmodels() -> None:
    clusters = RNG.integers(0, 15, 90)
    before = RNG.uniform(size=90)
    after = before + RNG.normal(0.0, 0.2, 15)[clusters] + RNG.normal(0.0, 0.1, 90)
    found = s.paired_item_mean(before, after, clusters=clusters)
    expected = statsmodels_clustered(after - before, np.ones(90), clusters)
    assert (found.value, found.standard_error, found.low, found.high) == pytest.approx(expected)


def test_clustered_perplexities_have_the_jackknifes_error() -> None:
    clusters, tokens, base, adapter = clustered(np.random.default_rng(9), 200, 40)

    def difference(left_out: int) -> float:
        keep = clusters != left_out
        whole = tokens[keep].sum()
        return math.exp(adapter[keep].sum() / whole) - math.exp(base[keep].sum() / whole)

    without = np.array([difference(cluster) for cluster in range(40)])
    jackknife = math.sqrt(39 / 40 * ((without - without.mean()) ** 2).sum())
    found = s.paired_log_ratio(base, adapter, tokens, clusters=clusters)
    assert found.standard_error == pytest.approx(jackknife, rel=0.1)
    perplexity = s.log_ratio(base, tokens, clusters=clusters)
    loss = s.ratio(base, tokens, clusters=clusters)
    assert (perplexity.low, perplexity.high) == pytest.approx(
        (math.exp(loss.low), math.exp(loss.high))
    )


def test_examples_without_a_cluster_are_their_own() -> None:
    numbers = s.cluster_numbers(["a", "", "b", "a", ""])
    assert numbers is not None
    assert numbers.tolist() == [0, 1, 2, 0, 3]
    assert s.cluster_numbers(["", ""]) is None
    assert s.cluster_numbers([]) is None
    every = s.cluster_numbers(list("abcdef"))
    values = RNG.uniform(size=6)
    assert s.item_mean(values, clusters=every) == s.item_mean(values)
    with pytest.raises(StatisticsError, match="6 values cannot belong to 5 clusters"):
        s.item_mean(values, clusters=numbers)


@pytest.mark.parametrize(
    ("right", "items"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 17), (150, 200)]
)
def test_clopper_pearson_is_scipys(right: int, items: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(right, items).proportion_ci(0.95, method="exact")
    assert proportions.clopper_pearson(right, items) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (7, 9), (30, 12)])
def test_mcnemar_is_statsmodels(gained: int, lost: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    expected = mcnemar([[10, gained], [lost, 10]], exact=True).pvalue
    assert proportions.exact_mcnemar(gained, lost) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gained", "lost", "items", "tail", "low", "high", "digits"),
    [
        # Airway reactivity of 21 children before and after transplantation: Fagerland, Lydersen
        # and Laake (2014), Statistics in Medicine 33:2850-2875, tables II and V.
        (1, 7, 21, 0.025, -0.517, -0.026, 3),
        # R's PropCIs::scoreci.mp(25, 28, 618, 0.90), which estimates (second - first)/n.
        (28, 25, 618, 0.05, -0.0148, 0.0247, 4),
    ],
)
def test_tango_gives_published_limits(
    gained: int, lost: int, items: int, tail: float, low: float, high: float, digits: int
) -> None:
    found = proportions.tango_interval(gained, lost, items, tail)
    assert tuple(round(limit, digits) for limit in found) == (low, high)


def test_tango_without_a_discordant_pair_is_not_a_point() -> None:
    """The closed form is ±z²/(n + z²); Wald's interval would be [0, 0]."""
    z = s.normal_quantile(0.975)
    low, high = proportions.tango_interval(0, 0, 40)
    assert high == pytest.approx(z * z / (40 + z * z))
    assert low == pytest.approx(-high)


@given(st.integers(1, 300), st.data())
def test_tango_is_symmetric_holds_the_estimate_and_nests(items: int, data: st.DataObject) -> None:
    gained = data.draw(st.integers(0, items))
    lost = data.draw(st.integers(0, items - gained))
    low, high = proportions.tango_interval(gained, lost, items)
    assert -1.0 <= low <= (gained - lost) / items + 1e-12
    assert (gained - lost) / items - 1e-12 <= high <= 1.0
    assert proportions.tango_interval(lost, gained, items) == pytest.approx((-high, -low), abs=1e-9)
    inner = proportions.tango_interval(gained, lost, items, 0.05)
    assert low - 1e-9 <= inner[0] and inner[1] <= high + 1e-9


def test_tango_agrees_with_the_score_test_at_zero() -> None:
    """At a margin of 0 Tango's statistic is McNemar's (b - c)/√(b + c)."""
    limit = (21 - 9) / math.sqrt(21 + 9)
    tail = 0.5 * math.erfc(limit / math.sqrt(2))
    assert proportions.tango_interval(21, 9, 200, tail)[0] == pytest.approx(0.0, abs=1e-9)


def test_one_example_says_nothing() -> None:
    for found in (
        s.ratio([3.0], [2.0]),
        s.item_mean([0.5], span=1.0),
        s.log_ratio([3.0], [2.0]),
        s.paired_log_ratio([3.0], [2.0], [2.0]),
    ):
        assert found.standard_error == math.inf
        assert found.high == math.inf
        assert found.low in (-math.inf, 0.0)
        assert s.t_test(found.value, found.standard_error, found.degrees_of_freedom) == 1.0


def test_equal_items_of_a_bounded_figure_keep_a_width() -> None:
    """n equal items do not prove that all items are equal: the rule of three."""
    for items in (2, 20, 500):
        found = s.item_mean([1.0 / 3.0] * items, span=1.0)
        exact = 1.0 - 0.025 ** (1.0 / items)
        assert found.high - found.value >= min(exact, 1.0) * 0.999
    assert s.item_mean([0.25] * 5).standard_error == 0.0  # unbounded: nothing is known of it
    assert s.paired_ratio(BASE, BASE, TOKENS).standard_error == 0.0


@pytest.mark.parametrize("items", [20, 200, 2000])
def test_the_interval_neither_jumps_nor_narrows_when_items_begin_to_differ(items: int) -> None:
    """All equal once had a floor of 4/n, and one item that differed by 1e-6 next to no width."""

    def width(differing: int, by: float) -> float:
        after = np.zeros(items)
        after[:differing] = by * np.where(np.arange(differing) % 2, 1.0, -1.0)
        found = s.paired_item_mean(np.zeros(items), after, span=1.0)
        return found.high - found.low

    equal = width(0, 0.0)
    assert equal >= 2 * (1.0 - 0.025 ** (1.0 / items))
    sizes = [width(1, by) for by in np.geomspace(1e-9, 1e-2, 60)]
    assert sizes[0] == pytest.approx(equal, rel=1e-3)
    steps = np.abs(np.diff([equal, *sizes])) / equal
    assert steps.max() < 0.2
    assert min(sizes) > 0.3 * equal
    # Where many items carry the spread, the floor has no part in it.
    plain = 2 * s.t_quantile(0.975, items - 1) * np.std(np.tile([0.1, -0.1], items // 2), ddof=1)
    assert width(items, 0.1) == pytest.approx(plain / math.sqrt(items), rel=1e-4)


@given(st.sampled_from([0.9, 0.95, 0.975, 0.99]), st.integers(2, 3000))
def test_the_floor_covers_the_exact_bound(confidence: float, items: int) -> None:
    reach = s.t_quantile(confidence, items - 1) * s.zero_event_error(items, 1.0)
    assert reach >= 1.0 - (1.0 - confidence) ** (1.0 / items)


def test_the_error_of_a_proportion_is_never_nothing() -> None:
    assert proportions.proportion_error(30, 100) == pytest.approx(math.sqrt(0.3 * 0.7 / 100))
    assert proportions.proportion_error(0, 100) > 0.0
    assert proportions.proportion_error(1, 1) > 0.0
    assert proportions.discordance_error(0, 0, 50) > 0.0
    assert proportions.discordance_error(50, 0, 50) > 0.0
    differences = np.array([1.0] * 9 + [-1.0] * 4 + [0.0] * 37)
    assert proportions.discordance_error(9, 4, 50) == pytest.approx(
        differences.std() / math.sqrt(50)
    )


@pytest.mark.parametrize(
    ("numerators", "denominators", "message"),
    [
        ([], [], "at least one example"),
        ([1.0, math.nan], [1.0, 1.0], "value 1 is nan"),
        ([1.0, math.inf], [1.0, 1.0], "value 1 is inf"),
        ([1.0], [1.0, 1.0], "cannot be paired"),
        ([1.0, 1.0], [0.0, 0.0], "must not sum to zero"),
        ([1.0, 1.0], [-1.0, 3.0], "must not be negative"),
    ],
)
def test_numbers_without_an_honest_interval(
    numerators: list[float], denominators: list[float], message: str
) -> None:
    with pytest.raises(StatisticsError, match=message):
        s.ratio(numerators, denominators)


@pytest.mark.parametrize(("gained", "lost", "items"), [(0, 0, 0), (-1, 0, 5), (3, 3, 5)])
def test_impossible_counts(gained: int, lost: int, items: int) -> None:
    with pytest.raises(StatisticsError):
        proportions.tango_interval(gained, lost, items)
