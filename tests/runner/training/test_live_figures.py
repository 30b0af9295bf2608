"""Speed, padding, utilisation and time left, of steps whose work and clock are made up."""

from __future__ import annotations

import json

import pytest

from runner.training.live_figures import (
    RECENT_SECONDS,
    Figures,
    LiveFigures,
    Mark,
    bar_text,
    span,
    step_work,
)
from runner.training.model_operations import ModelOperations
from runner.training.training_rows import RowSizes

SIZES = RowSizes(lengths=(10, 20, 30, 40), supervised=(4, 8, 12, 16))
STEPS = ((0, 1), (2, 3), (0, 3))
OPERATIONS = ModelOperations(token=100.0, supervised=10.0, pair=1.0, windows={None: 2})


class Engine:
    """Counts computed tokens as the step engine does."""

    def __init__(self) -> None:
        self.computed = 0


def live(
    engine: Engine, *, peak: float | None = 1e4, ranks: int = 1, steps: object = STEPS
) -> LiveFigures:
    work = step_work(steps, SIZES, OPERATIONS, ranks=ranks)  # type: ignore[arg-type]
    return LiveFigures(work, computed=lambda: engine.computed, memory=lambda: 2**30, peak=peak)


def step(figures: LiveFigures, engine: Engine, number: int, computed: int, seconds: float) -> None:
    engine.computed += computed
    figures.step_done(number, seconds)


def test_figures_of_steps_count_real_tokens() -> None:
    engine = Engine()
    figures = live(engine)
    step(figures, engine, 1, 40, 0.5)  # two rows, padded to 20
    step(figures, engine, 2, 80, 1.5)
    found = figures.whole()
    assert found.tokens_per_second == (30 + 70) / 2
    assert found.padding == pytest.approx(1 - 100 / 120)
    assert found.supervised == 40 / 100
    assert found.peak_memory_bytes == 2**30
    pairs = 2 * sum(n * (n + 1) // 2 for n in SIZES.lengths)
    assert found.utilization == pytest.approx((100 * 100 + 10 * 40 + pairs) / 2.0 / 1e4)
    since = figures.since(Mark(step=1, seconds=0.5, computed=40, own=30))
    assert since.tokens_per_second == pytest.approx(70 / 1.5)
    assert since.padding == pytest.approx(1 - 70 / 80)


def test_what_is_not_known_is_left_out() -> None:
    engine = Engine()
    figures = live(engine, peak=None)
    step(figures, engine, 1, 30, 0.5)
    assert figures.whole().utilization is None
    assert set(figures.whole().as_point()) == {
        "tokens_per_second",
        "padding",
        "supervised",
        "peak_memory_bytes",
    }
    unknown = LiveFigures(
        step_work(STEPS, SIZES, None),
        computed=lambda: engine.computed,
        memory=lambda: 0,
        peak=1e12,
    )
    unknown.step_done(1, 1.0)
    assert unknown.whole().utilization is None


def test_padding_is_that_of_this_rank_and_speed_that_of_all() -> None:
    engine = Engine()
    figures = live(engine, ranks=2)  # rank 0 has rows 0 and 2 of the first two steps
    step(figures, engine, 1, 10, 1.0)
    step(figures, engine, 2, 40, 1.0)
    found = figures.whole()
    assert found.tokens_per_second == 50
    assert found.padding == pytest.approx(1 - 40 / 50)


def test_a_continued_training_keeps_counting() -> None:
    """The planted error: a fresh engine's counter starts at zero, and padding turned negative."""
    engine = Engine()
    figures = live(engine)
    step(figures, engine, 1, 40, 0.5)
    state = json.loads(json.dumps(figures.state()))
    fresh = Engine()
    again = live(fresh)
    again.restore(state)
    assert again.now == figures.now
    step(again, fresh, 2, 80, 1.5)
    step(figures, engine, 2, 80, 1.5)
    assert again.whole() == figures.whole()


def test_recent_figures_forget_what_is_long_ago() -> None:
    engine = Engine()
    figures = live(engine, steps=((1,),) * 40)
    for number in range(1, 21):
        step(figures, engine, number, 20, 10.0)  # 2 tokens/s: compiling, say
    for number in range(21, 41):
        step(figures, engine, number, 20, 1.0)
    assert figures.recent().tokens_per_second == 20
    assert figures.whole().tokens_per_second == pytest.approx(800 / 220)
    assert RECENT_SECONDS == 10.0


def test_the_time_left_is_that_of_the_tokens_left() -> None:
    engine = Engine()
    figures = live(engine)
    assert figures.seconds_left(validations=1) is None
    step(figures, engine, 1, 30, 3.0)
    figures.validation_seconds = 7.0
    assert figures.seconds_left(validations=2) == pytest.approx((70 + 50) / 10 + 2 * 7)
    step(figures, engine, 2, 70, 7.0)
    step(figures, engine, 3, 50, 5.0)
    assert figures.seconds_left(validations=0) == 0


def test_the_bar_tells_what_is_known() -> None:
    figures = Figures(
        tokens_per_second=19_662.4,
        padding=0.001,
        supervised=0.6,
        peak_memory_bytes=3 * 2**29,
        utilization=0.703,
    )
    assert bar_text(0.51234, figures, 754.0) == (
        "loss 0.512, 19,662 tokens/s, 70% of peak, 1.5 GiB, 13 min left"
    )
    plain = Figures(
        tokens_per_second=5197.0,
        padding=0.118,
        supervised=0.6,
        peak_memory_bytes=2**30,
        utilization=None,
    )
    assert bar_text(None, plain, None) == "5,197 tokens/s, 12% padding, 1.0 GiB"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "1 h 30 min")]
)
def test_spans_are_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text
