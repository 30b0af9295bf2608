"""What a run is judged by besides its own results: the last release, earlier looks, other seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalsuite.errors import EvaluationError
from evalsuite.gates import judge
from evalsuite.ledger import read_ledger
from evalsuite.looks import with_looks
from evalsuite.record_files import read_evidence
from evalsuite.records import Evidence, Gate, PreviousRelease, Verdict
from evalsuite.seeds import seed_warnings
from runner.errors import UsageError
from runner.ledger_place import ledger_place
from runner.plan import Plan
from runner.previous_release import (
    FoundRelease,
    last_release,
    named_release,
    take_in_results,
)
from runner.run_folder import RunFolder, remove
from runner.stored_json import read_json
from runner.subject_evaluation import seal_evaluation

Announce = Callable[[str], None]


def compared_release(plan: Plan, named: Path | None, announce: Announce) -> PreviousRelease | None:
    """The release that gates compare with, its results taken in as ``evaluation/release``.

    None where no gate compares with one, or nothing is released yet.

    Args:
        plan: The run.
        named: A release given on the command line, before that of the recipe.
        announce: Told which release it is.

    Raises:
        UsageError: there is no release in a folder that is named.
        MachineError: the release is damaged.
    """
    target = plan.folder.evaluation / "release"
    if not _compares_with_release(plan):
        remove(target)
        return None
    found = check_previous(plan, named) or last_release(plan.folder)
    if found is None:
        remove(target)
        announce("  nothing of this recipe is released yet: there is nothing to compare with")
        return None
    take_in_results(found, target)
    seal_evaluation(target, found.evidence_digest)
    announce(f"  compared with the release of run {found.run_id}: {found.folder}")
    return PreviousRelease(
        run_id=found.run_id,
        adapter_digest=found.adapter_digest,
        base_digest=found.base_digest,
        evidence_digest=found.evidence_digest,
    )


def check_previous(plan: Plan, named: Path | None) -> FoundRelease | None:
    """The release that the command line, or else the recipe, names; None where neither does.

    Raises:
        UsageError: there is no release in that folder, or no gate compares with one.
        MachineError: the release is damaged.
    """
    if named is not None and not _compares_with_release(plan):
        raise UsageError(f"--previous {named}: no gate of this recipe compares with a release.")
    written = plan.recipe.release.previous
    folder = named or (None if written is None else plan.base_folder / written)
    return None if folder is None else named_release(folder)


def _compares_with_release(plan: Plan) -> bool:
    return any(gate.against == "release" for gate in plan.recipe.gates)


def check_ledger(recipe_file: Path, runs: Path, announce: Announce) -> None:
    """Read the ledger of looks before any work: a damaged one is mended now, not after training.

    Raises:
        EvidenceError: A line of it is no entry.
    """
    place, why_elsewhere = ledger_place(recipe_file, runs)
    if why_elsewhere is not None:
        announce(f"  warning: {why_elsewhere}")
    read_ledger(place)


def judged(
    gates: Sequence[Gate],
    evidence: Evidence,
    folder: RunFolder,
    recipe_file: Path | None,
    *,
    announce: Announce,
) -> Verdict:
    """The verdict, with how often its rows have been looked at and what other seeds say.

    Args:
        gates: What is claimed.
        evidence: The run's own.
        folder: The run.
        recipe_file: The recipe that the run was made with, beside which the ledger lies; None
            where it has gone.
        announce: Told of warnings.

    Raises:
        EvidenceError: The ledger is damaged.
    """
    verdict = judge(gates, evidence)
    lock = read_json(folder.lock)
    place, _ = ledger_place(recipe_file, folder.path.parent.parent)
    if verdict.gates:
        verdict = with_looks(
            verdict,
            place,
            results=folder.evaluation / "adapter",
            memberships=lock["partitions"],
            recipe=str(lock["recipe"]["name"]),
            run_id=str(lock["run_id"]),
        )
    warnings = seed_warnings(gates, evidence, list(_other_seeds(folder, lock, evidence)))
    for warning in warnings:
        announce(f"  warning: {warning}")
    return replace(verdict, warnings=warnings)


def _other_seeds(
    folder: RunFolder, lock: Mapping[str, Any], evidence: Evidence
) -> Iterator[Evidence]:
    """Evidence of the recipe's runs that differ from this one by their seed alone."""
    for path in sorted(folder.path.parent.glob("*/evidence.json")):
        other = RunFolder(path.parent)
        if other.path.name == folder.path.name or not other.lock.is_file():
            continue
        known = read_json(other.lock)
        if known["seed"] == lock["seed"] or _but_for_seed(known) != _but_for_seed(lock):
            continue
        try:
            found = read_evidence(path)
        except EvaluationError:  # of another version: nothing can be said of it
            continue
        if found.identity == evidence.identity and found.base_digest == evidence.base_digest:
            yield found


def _but_for_seed(lock: Mapping[str, Any]) -> tuple[object, ...]:
    """All that makes a run what it is, without its seed and without what only judges it."""
    recipe = {k: v for k, v in lock["recipe"].items() if k not in ("seed", "gates", "release")}
    target = lock.get("target")  # trained elsewhere: by its digest
    return recipe, lock["code_digest"], lock["versions"], lock["partitions"], target
