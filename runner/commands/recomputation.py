"""Evidence and verdict, computed again from the per-example records of a run or a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.json_difference import first_difference
from runner.release import LEAKED
from runner.run_folder import RunFolder
from runner.stored_json import read_json
from runner.verification import Disagreement, given_recipe, locked_recipe, recorded_digests
from runner.versions import MEASURING, code_digest

if TYPE_CHECKING:
    from evalsuite.records import Evidence, Verdict


def check_evidence(folder: Path) -> Iterator[Disagreement]:
    """Every figure and every difference follows from the per-example records.

    Raises:
        EvaluationError, MachineError: a record is missing or damaged.
    """
    from evalsuite.record_files import read_evidence

    stored = read_evidence(folder / "evidence.json")
    again = gathered_again(folder, stored)
    for name in (field.name for field in fields(stored)):
        place = first_difference(_plain(getattr(stored, name)), _plain(getattr(again, name)), name)
        if place is not None:
            yield Disagreement(
                file="evidence.json", reason=f"{place}, by the per-example records in evaluation/"
            )


def gathered_again(folder: Path, stored: Evidence) -> Evidence:
    """The evidence, weighed once more from the records in ``folder``.

    Identity and the last release are taken from ``stored``: they are not in the records.
    """
    from evalsuite.clean_rows import read_leaked
    from evalsuite.evidence import gather_evidence

    return gather_evidence(
        folder=folder / "evaluation",
        base=locked_recipe(folder).evaluation.base,
        identity=stored.identity,
        base_digest=_base_digest(folder),
        adapter_digest=recorded_digests(folder)[0],
        leaked=read_leaked(folder / LEAKED),
        release=stored.release,
    )


def _base_digest(folder: Path) -> str:
    """Digest of the base that was judged: the recipe's, or what the run quantized it to."""
    lock = read_json(folder / "lock.json")
    return str(lock.get("quantized", lock["model"])["digest"])


def check_verdict(folder: Path) -> Iterator[Disagreement]:
    """The recipe's gates, judged by the recomputed evidence, give the stored verdict: a PASS.

    Raises:
        EvaluationError, MachineError: a record is missing or damaged.
    """
    from evalsuite.gates import judge
    from evalsuite.record_files import evidence_digest, read_evidence, read_verdict
    from runner.stages import gates_of

    stored = read_verdict(folder / "verdict.json")
    evidence = read_evidence(folder / "evidence.json")
    if stored.evidence_digest != evidence_digest(evidence):
        yield Disagreement(file="verdict.json", reason="was given on other evidence")
    gates = gates_of(given_recipe(folder).gates)
    if tuple(result.gate for result in stored.gates) != gates:
        recipe = RunFolder(folder).recipe.name
        yield Disagreement(
            file="verdict.json", reason=f"was given by other gates than {recipe} declares"
        )
    again = replace(
        judge(gates, gathered_again(folder, evidence)),
        evidence_digest=stored.evidence_digest,
        # Neither decides, and neither can be made again from one run.
        looks=stored.looks,
        warnings=stored.warnings,
    )
    comparable = _comparable(evidence)
    place = first_difference(comparable(stored), comparable(again))
    if place is not None:
        yield Disagreement(file="verdict.json", reason=f"{place}, when judged again")
    if again.verdict != "PASS":
        yield Disagreement(
            file="verdict.json", reason=f"is {again.verdict} when judged again: {again.reason}"
        )


def _comparable(evidence: Evidence) -> Callable[[Verdict], object]:
    """Verdicts as JSON; without their sentences, where another version of the code wrote those."""
    if evidence.identity.code_version == code_digest(MEASURING):
        return _plain
    return lambda verdict: _plain(
        replace(verdict, reason="", gates=tuple(replace(gate, reason="") for gate in verdict.gates))
    )


def _plain(record: object) -> object:
    from evalsuite.record_files import to_json

    return to_json(record)
