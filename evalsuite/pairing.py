"""Whether two stored results may be compared: the same examples, measured in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from evalsuite.errors import EvidenceError
from evalsuite.observations import difference, observations
from evalsuite.records import PairedDifference, Reference, Refusal
from evalsuite.results import PartitionLoss, TaskScores
from evalsuite.stored_results import StoredResults

Group = PartitionLoss | TaskScores

# What examples are told apart by, in the order in which a difference is named.
_IDENTITY = (
    "data_digest",
    "template_digest",
    "prompt_tokens_digest",
    "supervised_tokens_digest",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Differences of all that two results share, and why the rest cannot be compared."""

    differences: tuple[PairedDifference, ...]
    refused: tuple[Refusal, ...]


def paired(
    before: StoredResults,
    after: StoredResults,
    *,
    against: Reference = "base",
    names: tuple[str, str] = ("base", "adapter"),
) -> Paired:
    """``after`` minus ``before`` of every figure of the groups that may be compared.

    Args:
        before: What is compared with.
        after: What is judged.
        against: What ``before`` is, for the records.
        names: What the two are called in the reasons of refusals.

    Raises:
        EvidenceError: No honest interval can be made of a figure's numbers.
    """
    refused = tuple(_refusals(before, after, names))
    without = {refusal.group for refusal in refused}
    first = {seen.metric: seen for seen in observations(before)}
    second = {seen.metric: seen for seen in observations(after)}
    return Paired(
        differences=tuple(
            difference(first[metric], seen, against=against)
            for metric, seen in second.items()
            if metric in first and metric.rpartition(".")[0] not in without
        ),
        refused=refused,
    )


def require_comparable(before: StoredResults, after: StoredResults) -> None:
    """Base and adapter of one run were evaluated on the same examples in the same way.

    Raises:
        EvidenceError: They were not; names the first difference.
    """
    for what in ("losses", "tasks"):
        _require_same_names(what, getattr(before, what), getattr(after, what))
    for refusal in _refusals(before, after, ("base", "adapter")):
        raise EvidenceError(f"{refusal.group}: {refusal.reason}")


def _require_same_names(what: str, base: Mapping[str, Any], adapter: Mapping[str, Any]) -> None:
    if base.keys() != adapter.keys():
        named = {"losses": "held-out partitions", "tasks": "generation tasks"}[what]
        raise EvidenceError(
            f"base and adapter were evaluated on other {named}: {', '.join(sorted(base))} and "
            f"{', '.join(sorted(adapter))}; evaluate both by the same recipe."
        )


def _refusals(
    before: StoredResults, after: StoredResults, names: tuple[str, str]
) -> Iterator[Refusal]:
    """Every group that cannot be compared, with the first thing in which it differs."""
    first, second = dict(before.groups()), dict(after.groups())
    for group in [*second, *(name for name in first if name not in second)]:
        reason: str | None
        if group not in first or group not in second:
            reason = f"only the {names[0] if group in first else names[1]} was evaluated on it."
        else:
            reason = why_incomparable(first[group], second[group], names)
        if reason is not None:
            yield Refusal(group=group, reason=reason)


def why_incomparable(before: Group, after: Group, names: tuple[str, str]) -> str | None:
    """The first thing in which two results of one group differ; None where they are the same.

    In this order: the examples' ids, the rows' content, the template, the prompts' tokens, the
    supervised tokens, then the conditions (decoding, metrics, …) by name.
    """
    if isinstance(before, TaskScores) != isinstance(after, TaskScores):
        return f"one of {names[0]} and {names[1]} has answers to it, and the other losses."
    return (
        _other_ids(before.example_ids, after.example_ids, names)
        or _other_conditions(_conditions(before), _conditions(after), names)
        or _other_counts(before, after, names)
    )


def _conditions(group: Group) -> dict[str, object]:
    figures = {"figures": dict(group.figures)} if isinstance(group, TaskScores) else {}
    return {**group.conditions, **figures}


def _other_ids(before: Sequence[str], after: Sequence[str], names: tuple[str, str]) -> str | None:
    for place, (first, second) in enumerate(zip_longest(before, after)):
        if first != second:
            return (
                f"{names[0]} and {names[1]} differ at example {place}: {first or 'none'} and "
                f"{second or 'none'}; evaluate both on the same examples."
            )
    return None


def _other_conditions(
    before: Mapping[str, object], after: Mapping[str, object], names: tuple[str, str]
) -> str | None:
    for name in (*_IDENTITY, *sorted({*before, *after})):
        first, second = before.get(name), after.get(name)
        if first != second:
            return (
                f"{names[0]} and {names[1]} differ in {name.replace('_', ' ')}: {_shown(first)} "
                f"and {_shown(second)}; evaluate both in the same way."
            )
    return None


def _shown(value: object) -> str:
    """A condition in a message; a digest is cut to what tells it apart."""
    digest = isinstance(value, str) and len(value) == 64  # noqa: PLR2004 - SHA-256 in hexadecimal
    return str(value)[:12] if digest else str(value)


def _other_counts(before: Group, after: Group, names: tuple[str, str]) -> str | None:
    if not (isinstance(before, PartitionLoss) and isinstance(after, PartitionLoss)):
        return None
    for column in ("tokens", "bytes"):
        first, second = getattr(before, column), getattr(after, column)
        differing = np.flatnonzero(first != second)
        if len(differing):
            place = int(differing[0])
            return (
                f"example {before.example_ids[place]} has {first[place]:.0f} supervised {column} "
                f"for the {names[0]} and {second[place]:.0f} for the {names[1]}; both must be "
                "scored on the same tokens."
            )
    return None
