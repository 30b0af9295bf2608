"""The release: only files whose digests the verdict names, with their checksums."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner.digests import file_digest
from runner.errors import MachineError
from runner.run_folder import RunFolder
from runner.stored_json import sync_folder, write_bytes
from runner.training.adapter_files import WEIGHTS

EVIDENCE_FILES = ("lock.json", "data.json", "training.json", "evidence.json", "verdict.json")


def make_release(
    run: RunFolder,
    adapter: RunFolder,
    *,
    adapter_digest: str,
    tokenizer_files: Path,
    card: str,
) -> Path:
    """Pack the release folder of ``adapter`` (the run itself, or its final fit) in one step.

    Args:
        run: The gated run; its recipe, lock, evidence, verdict and report go along.
        adapter: Where the adapter to ship lies.
        adapter_digest: SHA-256 that its weights must have.
        tokenizer_files: Folder with the tokenizer as trained with, padding on the left as
            generation needs it.
        card: Text of the model card.

    Raises:
        MachineError: the adapter on disk is not the one that was judged.
    """
    found = file_digest(adapter.adapter / WEIGHTS)
    if found != adapter_digest:
        raise MachineError(
            f"{adapter.adapter}: the adapter is not the one that was judged (SHA-256 "
            f"{found[:12]}…, judged {adapter_digest[:12]}…). It will not be released."
        )
    temporary = adapter.path / ".release.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(adapter.adapter, temporary)
    shutil.copytree(tokenizer_files, temporary, dirs_exist_ok=True)
    _copy_evidence(run, temporary)
    write_bytes(temporary / "README.md", card.encode())
    write_bytes(temporary / "SHA256SUMS", checksums(temporary).encode())
    shutil.rmtree(adapter.release, ignore_errors=True)
    temporary.rename(adapter.release)
    sync_folder(adapter.path)
    return adapter.release


def _copy_evidence(run: RunFolder, target: Path) -> None:
    recipe = run.recipe
    shutil.copy2(recipe, target / recipe.name)
    shutil.copy2(run.report, target / run.report.name)
    for name in EVIDENCE_FILES:
        shutil.copy2(run.path / name, target / name)
    shutil.copytree(run.evaluation, target / "evaluation")


def checksums(folder: Path) -> str:
    """Lines as ``sha256sum --check`` reads them, for every file of the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{file_digest(p)}  {p.relative_to(folder).as_posix()}" for p in files]
    return "\n".join(lines) + "\n"
