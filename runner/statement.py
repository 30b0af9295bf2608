"""The statement that travels with a release: what was decided about which files.

in-toto Statement v1: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from runner.digests import digest_of_json, file_digest
from runner.stored_json import read_json

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:proofbox:release-decision:v1"
CHECKSUMS = "SHA256SUMS"
STATEMENT = "decision.intoto.json"
ENVELOPE = "decision.dsse.json"
# They speak about the other files, so they cannot be among the subjects.
NOT_SUBJECTS = (CHECKSUMS, STATEMENT, ENVELOPE)
# Left in a release by git, or by a download from the Hub; nothing reads them as part of it.
_FOREIGN_FILES = (".gitattributes",)
_FOREIGN_FOLDERS = (".git", ".cache")

# Which adapter lies in the release: the one that was judged, or the fit on all data after it.
Fit = Literal["judged", "final"]


def released_files(release: Path) -> dict[str, Path]:
    """Every file of a release, by its name in it, sorted; without what git and the Hub add."""
    found = {
        path.relative_to(release).as_posix(): path
        for path in release.rglob("*")
        if path.is_file() or path.is_symlink()
    }
    return {name: found[name] for name in sorted(found) if not _is_foreign(name)}


def _is_foreign(name: str) -> bool:
    return name in _FOREIGN_FILES or name.split("/", maxsplit=1)[0] in _FOREIGN_FOLDERS


def statement_of(
    release: Path, *, fit: Fit, adapter_files: Sequence[str], tokenizer_files: Sequence[str]
) -> dict[str, Any]:
    """The statement of a packed release, from its files alone: the same files, the same statement.

    Args:
        release: The folder, with everything in it but ``NOT_SUBJECTS``.
        fit: Which adapter lies in it.
        adapter_files: Names of the adapter's files.
        tokenizer_files: Names of the tokenizer's files.

    Raises:
        MachineError: a record is missing or damaged.
        KeyError, TypeError: a record lacks a key, or a named file is not there.
    """
    digests = {
        name: file_digest(path)
        for name, path in released_files(release).items()
        if name not in NOT_SUBJECTS
    }
    released = {
        "fit": fit,
        **_part("adapter", adapter_files, digests),
        **_part("tokenizer", tokenizer_files, digests),
    }
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in digests.items()],
        "predicateType": PREDICATE_TYPE,
        "predicate": {**_decision(release, digests), "released": released},
    }


def _part(what: str, names: Sequence[str], digests: Mapping[str, str]) -> dict[str, Any]:
    """Files of the adapter or tokenizer and the digest over all of them (adapter_files)."""
    return {
        f"{what}Files": sorted(names),
        f"{what}Digest": digest_of_json({name: digests[name] for name in names}),
    }


def _decision(release: Path, digests: Mapping[str, str]) -> dict[str, Any]:
    """What was decided, on which evidence, about what."""
    verdict, lock = read_json(release / "verdict.json"), read_json(release / "lock.json")
    return {
        "verdict": {"result": verdict["verdict"], "reason": verdict["reason"]},
        "gates": verdict["gates"],
        "looks": verdict["looks"],
        "warnings": verdict["warnings"],
        "evidence": {"sha256": digests["evidence.json"]},
        "judged": {
            "adapterDigest": verdict["adapter_digest"],
            "trained": "elsewhere" if "subject.json" in digests else "by this run",
        },
        "base": {key: lock["model"][key] for key in ("name", "digest", "revision")},
        **_quantized(lock),
        "data": {"digest": lock["data"]["digest"]},
        "recipe": {"name": lock["recipe"]["name"], "digest": lock["recipe_digest"]},
        "run": lock["run_id"],
        "proofbox": lock["proofbox"],
        "versions": lock["versions"],
    }


def _quantized(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The quantized base that the run made of ``base``, where it made one, and what with."""
    made = lock.get("quantized")
    if made is None:
        return {}
    return {
        "quantizedBase": {
            "digest": made["digest"],
            "quantization": made["quantization"],
            "calibrationDigest": made["calibration_digest"],
            "versions": made["versions"],
        }
    }
