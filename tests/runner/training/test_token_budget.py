"""How many tokens are computed at once, given what is free."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from runner.training.token_budget import (
    ENOUGH_TOKENS,
    TokenBudget,
    choose_token_budget,
    fitting_tokens,
)


@dataclass(frozen=True)
class MegabyteEach:
    """Every token takes a megabyte, and computing anything ten."""

    def computing_bytes(self, tokens: int) -> int:
        return 10_000_000 + tokens * 1_000_000


def budget(
    wanted: int | str = "auto",
    *,
    device: str = "cuda",
    gigabytes: float = 100,
    longest: int = 900,
    step: int = 9000,
) -> TokenBudget:
    return choose_token_budget(
        wanted,
        device=device,
        free_bytes=int(gigabytes * 1e9),
        estimate=MegabyteEach(),
        longest=longest,
        step_tokens=step,
    )


def test_the_recipe_decides_where_it_says_a_number() -> None:
    assert budget(123, gigabytes=0.001) == TokenBudget(tokens=123, reason="as the recipe says")


def test_a_whole_step_where_it_fits() -> None:
    assert budget().tokens == 9000
    assert budget().reason.startswith("a whole step; they take about 9.0 GB of 100.0 GB")


def test_no_more_than_brings_speed() -> None:
    assert budget(step=10**6).tokens == ENOUGH_TOKENS["cuda"]
    assert budget(step=10**6, device="cpu").tokens == ENOUGH_TOKENS["cpu"]
    assert "more would not be faster" in budget(step=10**6).reason


def test_what_fits_in_the_free_memory() -> None:
    found = budget(gigabytes=5)  # of which 4.5 may be used
    assert found.tokens == 4490
    assert found.reason == "what fits in 90% of 5.0 GB of free memory"


def test_the_longest_example_is_computed_whole_even_where_it_may_not_fit() -> None:
    found = budget(gigabytes=0.5)
    assert found.tokens == 900
    assert found.reason == "the longest example alone may take 0.91 GB of 0.5 GB of free memory"


@pytest.mark.parametrize(("usable", "tokens"), [(0, 0), (10_999_999, 0), (12_000_000, 2)])
def test_fitting_tokens_are_the_largest_number_that_fits(usable: int, tokens: int) -> None:
    assert fitting_tokens(MegabyteEach(), usable, most=100) == tokens


def test_halving_ends_at_one_token() -> None:
    half = TokenBudget(tokens=1000, reason="so").halve(300)
    assert half == TokenBudget(tokens=150, reason="300 at once ran out of memory")
    assert half.halve(400).tokens == 75
    assert TokenBudget(tokens=1, reason="so").halve(1).tokens == 1
