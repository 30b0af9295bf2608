"""``proofbox verify``: a release, checked from its own files alone, without model or network."""

from __future__ import annotations

from pathlib import Path

from runner.commands.recomputation import check_evidence, check_verdict
from runner.errors import ExitCode, MachineError
from runner.stored_json import read_json
from runner.verification import (
    Disagreement,
    check_adapter,
    check_checksums,
    check_envelope_payload,
    check_names,
    check_recipe,
    check_signature,
    check_statement,
    open_release,
)

# What reading a record of another shape than ours may raise.
_MISSHAPEN = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, OSError)


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
    for check in (check_recipe, check_adapter, check_names, check_evidence, check_verdict):
        try:
            found += check(release)
        except (MachineError, EvaluationError) as error:
            found.append(_damaged(release, str(error)))
        except _MISSHAPEN as error:
            what = f"a record is not of this kind ({type(error).__name__}: {error})"
            found.append(_damaged(release, f"{check.__name__}: {what}"))
    return found


def _damaged(release: Path, message: str) -> Disagreement:
    """The message of an error begins with the path of the file."""
    file, _, reason = message.removeprefix(f"{release}/").partition(": ")
    return Disagreement(file=file, reason=reason or "cannot be read")


def _summary(release: Path) -> str:
    verdict = read_json(release / "verdict.json")
    return f"Verdict {verdict['verdict']}: {verdict['reason']}"
