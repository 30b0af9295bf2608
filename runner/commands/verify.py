"""``proofbox verify``: a release, checked from its own files alone, without model or network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import ExitCode, MachineError
from runner.json_difference import first_difference
from runner.recipe import Recipe
from runner.release import LEAKED
from runner.run_folder import RunFolder
from runner.stored_json import read_json
from runner.verification import (
    Disagreement,
    check_adapter,
    check_checksums,
    check_envelope_payload,
    check_recipe,
    check_signature,
    check_statement,
    open_release,
    recorded_digests,
)
from runner.versions import MEASURING, code_digest

if TYPE_CHECKING:
    from evalsuite.records import Evidence, Verdict


def verify(release: Path, *, key: Path | None) -> ExitCode:
    """Check digests, evidence, verdict and, with ``key``, the signature; print every fault.

    Exit code 1: the release does not hold what it says. docs/verification.md says what a release
    that holds proves, with and without a signature.

    Raises:
        UsageError: ``release`` is no release folder, or ``key`` no public key.
        MachineError: a key is given and the package cryptography is not installed.
    """
    from runner.progress import print_error
    from runner.signature import read_public_key

    folder = open_release(release)
    public = None if key is None else read_public_key(key)
    found = [*check_checksums(folder), *check_statement(folder)]
    found += check_envelope_payload(folder) if public is None else check_signature(folder, public)
    found += _disagreements_of_records(folder)
    for fault in dict.fromkeys(found):
        print_error(str(fault))
    if found:
        print_error(f"{folder}: NOT VERIFIED")
        return ExitCode.FAIL
    signed = "not checked (no --key)" if public is None else "valid"
    print(f"{folder}: verified. {_summary(folder)} Signature: {signed}.")  # noqa: T201 - output
    return ExitCode.PASS


def _disagreements_of_records(release: Path) -> list[Disagreement]:
    """What does not follow from the per-example records; a record that is gone is one of them."""
    from evalsuite.errors import EvaluationError

    found: list[Disagreement] = []
    for check in (check_recipe, check_adapter, check_evidence, check_verdict):
        try:
            found += check(release)
        except (MachineError, EvaluationError) as error:
            found.append(_damaged(release, str(error)))
        except (KeyError, TypeError, AttributeError) as error:
            found.append(_damaged(release, f"{check.__name__}: a record lacks {error}"))
    return found


def _damaged(release: Path, message: str) -> Disagreement:
    """The message of an error begins with the path of the file."""
    file, _, reason = message.removeprefix(f"{release}/").partition(": ")
    return Disagreement(file=file, reason=reason or "cannot be read")


def _summary(release: Path) -> str:
    verdict = read_json(release / "verdict.json")
    return f"Verdict {verdict['verdict']}: {verdict['reason']}"


def check_evidence(release: Path) -> Iterator[Disagreement]:
    """Every figure and every difference follows from the per-example records."""
    from evalsuite.record_files import read_evidence

    stored = read_evidence(release / "evidence.json")
    again = gathered_again(release, stored)
    for name in (field.name for field in fields(stored)):
        place = first_difference(_plain(getattr(stored, name)), _plain(getattr(again, name)), name)
        if place is not None:
            yield Disagreement(
                file="evidence.json", reason=f"{place}, by the per-example records in evaluation/"
            )


def gathered_again(release: Path, stored: Evidence) -> Evidence:
    """The evidence, weighed once more from the records of a release."""
    from evalsuite.clean_rows import read_leaked
    from evalsuite.evidence import gather_evidence

    lock = read_json(release / "lock.json")
    return gather_evidence(
        folder=release / "evaluation",
        base=_recipe(lock).evaluation.base,
        identity=stored.identity,
        base_digest=lock["model"]["digest"],
        adapter_digest=recorded_digests(release)[0],
        leaked=read_leaked(release / LEAKED),
        release=stored.release,
    )


def _recipe(lock: dict[str, object]) -> Recipe:
    return Recipe.model_validate_json(json.dumps(lock["recipe"]))


def check_verdict(release: Path) -> Iterator[Disagreement]:
    """The recipe's gates, judged by the recomputed evidence, give the stored verdict: a PASS."""
    from evalsuite.gates import judge
    from evalsuite.record_files import evidence_digest, read_evidence, read_verdict
    from runner.recipe_reading.recipe_file import read_recipe
    from runner.stages import gates_of

    stored = read_verdict(release / "verdict.json")
    evidence = read_evidence(release / "evidence.json")
    if stored.evidence_digest != evidence_digest(evidence):
        yield Disagreement(file="verdict.json", reason="was given on other evidence")
    recipe = RunFolder(release).recipe
    gates = gates_of(read_recipe(recipe, shown=recipe.name).gates)
    if tuple(result.gate for result in stored.gates) != gates:
        yield Disagreement(
            file="verdict.json", reason=f"was given by other gates than {recipe.name} declares"
        )
    again = replace(
        judge(gates, gathered_again(release, evidence)),
        evidence_digest=stored.evidence_digest,
        # Neither decides, and neither can be made again from one release.
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
