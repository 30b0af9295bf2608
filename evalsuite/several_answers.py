"""Several answers to one prompt, brought to one number for each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import EvidenceError
from evalsuite.figures import Figure

Array = NDArray[np.float64]


def answers_per_example(ids: Sequence[str], where: str) -> int:
    """How many rows each example has, from the example ids of the rows (n,).

    Raises:
        EvidenceError: The rows of an example are not one after the other, or not as many as those
            of the others.
    """
    starts = [place for place, name in enumerate(ids) if place == 0 or ids[place - 1] != name]
    if len({*ids}) != len(starts):
        raise EvidenceError(f"{where}: answers to one example are apart; evaluate the model again.")
    lengths = {end - start for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)}
    if len(lengths) > 1:
        raise EvidenceError(
            f"{where}: some examples have {min(lengths)} answers and some {max(lengths)}; evaluate "
            "the model again."
        )
    return lengths.pop() if lengths else 1


def mean_scores(scores: Array, answers: int) -> Array:
    """Scores of answers (n·answers,) as the mean of each example (n,)."""
    return np.asarray(scores.reshape(-1, answers).mean(axis=1)) if answers > 1 else scores


def summed_statistics(statistics: Array, answers: int) -> Array:
    """Statistics of answers (n·answers, K) summed for each example (n, K).

    Sums and not means: the figure of the whole is then that of all answers.
    """
    if answers == 1:
        return statistics
    return np.asarray(statistics.reshape(-1, answers, statistics.shape[1]).sum(axis=1))


def figure_of_means(figure: Figure, answers: int) -> Figure:
    """What a figure is when each example's is the mean of ``answers``: a share, not 0 or 1."""
    return replace(figure, kind="mean") if answers > 1 and figure.kind == "binary" else figure
