"""Evidence: every figure of base and adapter and their paired differences, from stored results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evalsuite.clean_rows import Leaked, leaked_examples
from evalsuite.instrument import read_floors
from evalsuite.observations import measurement, observations
from evalsuite.pairing import Paired, paired, require_comparable
from evalsuite.records import (
    Evidence,
    Identity,
    LeakedExamples,
    Measured,
    Measurement,
    PairedDifference,
    PreviousRelease,
    Reference,
)
from evalsuite.slices import slice_losses
from evalsuite.stored_results import LOSS_FILE, StoredResults, read_results

__all__ = ["LOSS_FILE", "gather_evidence", "paired_results"]


def gather_evidence(
    *,
    folder: Path,
    base: bool,
    identity: Identity,
    base_digest: str,
    adapter_digest: str | None,
    leaked: Leaked | None = None,
    release: PreviousRelease | None = None,
) -> Evidence:
    """Measure every figure from the per-example Parquet files below ``folder``.

    Where some rows of a partition or task leak, its figures are measured on the clean rows as well.

    Args:
        folder: A run's ``evaluation/``, with a folder for each subject.
        base: Whether the base model was evaluated; without it there are no differences.
        identity: What the results have in common.
        base_digest: Digest of the base model.
        adapter_digest: Digest of the adapter, or None where only the base was evaluated.
        leaked: By partition, the examples that leak; None where leaks were not looked for.
        release: The adapter released before, whose results lie in ``folder``'s ``release/``.

    Raises:
        EvidenceError: A file is missing or damaged; base and adapter were not evaluated on the
            same examples in the same way; a value is not finite; an example that leaks was not
            evaluated.
    """
    before = read_results(folder / "base") if base else None
    after = read_results(folder / "adapter") if adapter_digest is not None else None
    measurements: list[Measurement] = []
    differences: list[PairedDifference] = []
    if before is not None:
        measurements += _measurements(before, "base", leaked)
    if after is not None:
        measurements += _measurements(after, "adapter", leaked)
    if before is not None and after is not None:
        require_comparable(before, after)
        differences += _with_clean(before, after, leaked).differences
    if release is not None and after is not None:
        earlier = read_results(folder / "release")
        compared = _with_clean(earlier, after, leaked, release=True)
        shared = {found.metric for found in compared.differences}
        measurements += [m for m in _measurements(earlier, "release", leaked) if m.metric in shared]
        differences += compared.differences
        release = replace(release, refused=compared.refused)
    return Evidence(
        measurements=tuple(measurements),
        differences=tuple(differences),
        leaked=_leaked_examples(before or after, leaked),
        identity=identity,
        base_digest=base_digest,
        adapter_digest=adapter_digest,
        instrument=read_floors(folder / ("base" if base else "adapter")),
        release=release,
        slices=slice_losses(
            None if before is None else before.losses, None if after is None else after.losses
        ),
    )


def paired_results(first: Path, second: Path, *, names: tuple[str, str]) -> Paired:
    """Second minus first of every figure, from two folders of per-example results.

    The folders are ``evaluation/<subject>`` of any two runs: two adapters, or an adapter and a
    base. Groups that were not measured alike are left out, and named.

    Args:
        first: Results that are compared with.
        second: Results that are judged.
        names: What the two are called in the reasons of what is left out.

    Raises:
        EvidenceError: A file is missing or damaged, or a value is not finite.
    """
    return paired(read_results(first), read_results(second), names=names)


def _measurements(
    results: StoredResults, subject: Measured, leaked: Leaked | None
) -> list[Measurement]:
    """Every figure on all rows, then those on clean rows."""
    seen = list(observations(results))
    if leaked is not None:
        seen += observations(results.clean(leaked))
    return [measurement(one, subject) for one in seen]


def _with_clean(
    before: StoredResults, after: StoredResults, leaked: Leaked | None, *, release: bool = False
) -> Paired:
    """Differences on all rows, then those on clean rows."""
    against: Reference = "release" if release else "base"
    names = ("last release", "adapter") if release else ("base", "adapter")
    found = paired(before, after, against=against, names=names)
    if leaked is None:
        return found
    clean = paired(before.clean(leaked), after.clean(leaked), against=against, names=names)
    return replace(found, differences=(*found.differences, *clean.differences))


def _leaked_examples(
    results: StoredResults | None, leaked: Leaked | None
) -> tuple[LeakedExamples, ...]:
    if results is None or leaked is None:
        return ()
    return leaked_examples(results.losses, results.tasks, leaked)
