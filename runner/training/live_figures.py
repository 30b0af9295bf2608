"""What a training measures of its own speed while it runs (docs/performance.md says what it means).

Only real tokens count: those of examples, whatever is computed for padding or computed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from runner.training.model_operations import ModelOperations

if TYPE_CHECKING:
    from runner.training.training_rows import RowSizes

RECENT_SECONDS = 10.0  # what the bar shows is measured over the last so many seconds of steps


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """What optimizer steps consist of, known before the first: an entry a step in each.

    ``tokens``: real ones, of all ranks; ``own`` of this rank alone. ``supervised``: those learned
    from. ``operations``: floating-point ones that the model needs; None where they are not known.
    """

    tokens: tuple[int, ...]
    own: tuple[int, ...]
    supervised: tuple[int, ...]
    operations: tuple[float, ...] | None


def step_work(
    steps: Sequence[Sequence[int]],
    sizes: RowSizes,
    operations: ModelOperations | None,
    *,
    rank: int = 0,
    ranks: int = 1,
) -> StepWork:
    """Count the work of ``steps``, each a list of row indices as a schedule has them."""
    needed = None
    if operations is not None:
        pairs = zip(sizes.lengths, sizes.supervised, strict=True)
        of_row = [operations.of_example(length, learned) for length, learned in pairs]
        needed = tuple(float(sum(of_row[index] for index in step)) for step in steps)
    return StepWork(
        tokens=tuple(sum(sizes.lengths[index] for index in step) for step in steps),
        own=tuple(sum(sizes.lengths[index] for index in step[rank::ranks]) for step in steps),
        supervised=tuple(sum(sizes.supervised[index] for index in step) for step in steps),
        operations=needed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment of a training: so many steps done, in so many seconds.

    ``computed`` tokens of this rank, padding included, of which ``own`` are real.
    """

    step: int = 0
    seconds: float = 0.0
    computed: int = 0
    own: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures of some steps.

    ``padding``: share of the computed tokens that are not real; ``supervised``: share of the real
    tokens that are learned from. ``utilization``: operations that the model needs, by those that
    the devices could do in the time; None where either is not known.
    """

    tokens_per_second: float
    padding: float
    supervised: float
    peak_memory_bytes: int
    utilization: float | None

    def as_point(self) -> dict[str, float]:
        """For the training's history and trackers; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class LiveFigures:
    """Keeps the marks of a training and tells its figures over any of its stretches.

    Args:
        work: Of every step.
        computed: How many tokens this rank has computed in this process, padding included.
        memory: Most bytes that were in use so far.
        peak: Operations a second that all devices together could do; None where not known.
    """

    def __init__(
        self,
        work: StepWork,
        *,
        computed: Callable[[], int],
        memory: Callable[[], int],
        peak: float | None,
    ) -> None:
        """Stand before the first step; see the class."""
        self.work = work
        self.peak = peak
        self.now = Mark()
        self.validation_seconds = 0.0  # of the last one
        self._computed = computed
        self._memory = memory
        self._before = 0  # tokens that earlier processes computed
        self._tokens = tuple(accumulate(work.tokens, initial=0))  # of the first i steps
        self._recent: deque[Mark] = deque([self.now])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return asdict(self.now)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's ``state``, which another process left."""
        self.now = Mark(**state)
        self._before = self.now.computed - self._computed()
        self._recent = deque([self.now])

    def step_done(self, step: int, seconds: float) -> None:
        """Take in optimizer step ``step`` (the first is 1), which took so many seconds."""
        self.now = Mark(
            step=step,
            seconds=self.now.seconds + seconds,
            computed=self._before + self._computed(),
            own=self.now.own + self.work.own[step - 1],
        )
        self._recent.append(self.now)
        while self.now.seconds - self._recent[1].seconds >= RECENT_SECONDS:
            self._recent.popleft()

    def recent(self) -> Figures:
        """Figures of the last seconds."""
        return self.since(self._recent[0])

    def whole(self) -> Figures:
        """Figures of all steps so far."""
        return self.since(Mark())

    def since(self, mark: Mark) -> Figures:
        """Figures of the steps after ``mark``."""
        steps = slice(mark.step, self.now.step)
        seconds = self.now.seconds - mark.seconds
        tokens = self._tokens[self.now.step] - self._tokens[mark.step]
        computed = self.now.computed - mark.computed
        return Figures(
            tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
            padding=1 - (self.now.own - mark.own) / computed if computed else 0.0,
            supervised=sum(self.work.supervised[steps]) / tokens if tokens else 0.0,
            peak_memory_bytes=self._memory(),
            utilization=self._utilization(steps, seconds),
        )

    def _utilization(self, steps: slice, seconds: float) -> float | None:
        if self.work.operations is None or self.peak is None or seconds <= 0:
            return None
        return sum(self.work.operations[steps]) / seconds / self.peak

    def seconds_left(self, validations: int) -> float | None:
        """Until the last step is done, with so many validations to come; None before the first."""
        speed = self.recent().tokens_per_second
        if not speed:
            return None
        tokens = self._tokens[-1] - self._tokens[self.now.step]
        return tokens / speed + validations * self.validation_seconds


def bar_text(loss: float | None, figures: Figures, left: float | None) -> str:
    """The figures for a progress bar: what is zero or not known is left out."""
    parts = [] if loss is None else [f"loss {loss:.3f}"]
    parts.append(f"{figures.tokens_per_second:,.0f} tokens/s")
    if figures.utilization is not None:
        parts.append(f"{figures.utilization:.0%} of peak")
    if round(figures.padding, 2):
        parts.append(f"{figures.padding:.0%} padding")
    parts.append(f"{figures.peak_memory_bytes / 2**30:.1f} GiB")
    if left is not None:
        parts.append(f"{span(left)} left")
    return ", ".join(parts)


def span(seconds: float) -> str:
    """``48 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:  # noqa: PLR2004 - below a minute and a half, seconds read better
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"  # noqa: PLR2004 - as above
