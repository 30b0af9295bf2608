"""The adapter of a recipe that was released last: found, checked, and its results taken in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.digests import file_digest
from runner.errors import MachineError, UsageError
from runner.run_folder import RunFolder, remove
from runner.stored_json import read_json, write_json

CHECKSUMS = "SHA256SUMS"
RESULTS = "evaluation/adapter"
# What a comparison reads of a release, beside its results.
READ = ("evidence.json", "lock.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRelease:
    """A release that an adapter is compared with."""

    folder: Path
    run_id: str
    adapter_digest: str
    base_digest: str
    evidence_digest: str


def note_release(run: RunFolder, adapter_digest: str) -> None:
    """Record when the run's release was first packed; a release packed again keeps its time.

    The time lies beside the release and not in it, so that the same records give the same bytes.
    """
    known = read_json(run.released) if run.released.is_file() else {}
    if known.get("adapter_digest") != adapter_digest:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        write_json(run.released, {"adapter_digest": adapter_digest, "released_at": now})


def last_release(run: RunFolder) -> FoundRelease | None:
    """The newest release of the other runs of the recipe; None where there is none.

    Where this run has been released itself, the newest before that: run again, it is compared with
    what it was compared with.

    Raises:
        MachineError: the release is damaged.
    """
    own = read_json(run.released)["released_at"] if run.released.is_file() else None
    found: list[tuple[str, Path]] = []
    for record in run.path.parent.glob("*/released.json"):
        other = RunFolder(record.parent)
        released_at = str(read_json(record)["released_at"])
        if other.path.name != run.path.name and other.release.is_dir():
            found += [(released_at, other.release)] if own is None or released_at < own else []
    return read_release(max(found)[1]) if found else None


def named_release(folder: Path) -> FoundRelease:
    """The release in a folder that was named.

    Raises:
        UsageError: there is no release.
        MachineError: it is damaged.
    """
    if not (folder / CHECKSUMS).is_file():
        raise UsageError(f"{folder}: no release to compare with (it has no {CHECKSUMS}).")
    return read_release(folder)


def read_release(folder: Path) -> FoundRelease:
    """A release, after its evidence and per-example results were held against its checksums.

    Raises:
        MachineError: a file is missing or is not what it was.
    """
    listed = _checksums(folder)
    results = [name for name in listed if name.startswith(f"{RESULTS}/")]
    for name in (*READ, *results):
        path = folder / name
        if not path.is_file() or file_digest(path) != listed.get(name):
            raise MachineError(
                f"{path}: not as it was released. Nothing is compared with this release."
            )
    present = {p.relative_to(folder).as_posix() for p in (folder / RESULTS).glob("*.parquet")}
    if not results or present - set(results):
        raise MachineError(
            f"{folder / RESULTS}: not the per-example results that were released. Nothing is "
            "compared with this release."
        )
    evidence: dict[str, Any] = read_json(folder / "evidence.json")
    return FoundRelease(
        folder=folder,
        run_id=str(read_json(folder / "lock.json")["run_id"]),
        adapter_digest=str(evidence["adapter_digest"]),
        base_digest=str(evidence["base_digest"]),
        evidence_digest=file_digest(folder / "evidence.json"),
    )


def _checksums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MachineError(f"{folder / CHECKSUMS}: {error.strerror}") from None
    pairs = (line.split("  ", maxsplit=1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}  # noqa: PLR2004 - digest, name


def take_in_results(release: FoundRelease, target: Path) -> None:
    """Copy the released adapter's per-example results to ``target``, in one step.

    They go along with the run: its evidence can be made again from its own folder alone.
    """
    temporary = target.with_name(f".{target.name}")
    remove(temporary)
    temporary.mkdir(parents=True)
    for path in sorted((release.folder / RESULTS).glob("*.parquet")):
        shutil.copy2(path, temporary / path.name)
    remove(target)
    temporary.rename(target)
