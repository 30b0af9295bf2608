"""The release: only what was judged, file by file, with checksums."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner.digests import file_digest
from runner.errors import MachineError
from runner.run_folder import RunFolder, remove
from runner.stored_json import read_json, sync_folder, write_bytes
from runner.subject_evaluation import is_sealed
from runner.training.adapter_files import folder_digest
from runner.training.train_adapter import read_training

EVIDENCE_FILES = ("lock.json", "data.json", "training.json", "evidence.json", "verdict.json")
SUBJECTS = ("base", "adapter")


def check_evidence(run: RunFolder, judged: str | None) -> None:
    """The adapter that was judged is the one that was trained, and its evaluations are whole.

    Raises:
        MachineError: something changed since; the message names it.
    """
    training = read_training(run)
    if training.adapter_digest != judged:
        raise MachineError(
            f"{run.verdict}: this verdict is about another adapter than {run.adapter}. "
            "Run the recipe again."
        )
    for subject in SUBJECTS:
        folder = run.evaluation / subject
        if folder.is_dir() and not is_sealed(folder):
            raise MachineError(
                f"{folder}: the evaluation is not as it was judged. Run the recipe again."
            )


def check_adapter(adapter: RunFolder) -> None:
    """Adapter and tokenizer on disk are, in every file, as they were after training.

    Raises:
        MachineError: a file changed, is missing, or is too many.
    """
    training = read_training(adapter)
    for folder, expected in (
        (adapter.adapter, training.adapter_digest),
        (adapter.tokenizer, training.tokenizer_digest),
    ):
        if not folder.is_dir() or folder_digest(folder) != expected:
            raise MachineError(
                f"{folder}: not the one that was judged: a file changed since the training. "
                "It will not be released."
            )
    if read_json(adapter.reload)["adapter_digest"] != training.adapter_digest:
        raise MachineError(
            f"{adapter.reload}: no proof that this adapter, read back from disk, is the one that "
            "was trained. It will not be released."
        )


def make_release(run: RunFolder, adapter: RunFolder, *, card: str) -> Path:
    """Pack the release folder of ``adapter`` (the run itself, or its final fit) in one step.

    Args:
        run: The gated run; its recipe, lock, evidence, verdict and report go along.
        adapter: Where the adapter to ship lies.
        card: Text of the model card.

    Raises:
        MachineError: the adapter on disk is not the one that was judged.
    """
    check_adapter(adapter)
    temporary = adapter.path / ".release"
    remove(temporary)
    shutil.copytree(adapter.adapter, temporary)
    shutil.copytree(adapter.tokenizer, temporary, dirs_exist_ok=True)
    _copy_evidence(run, temporary)
    write_bytes(temporary / "README.md", card.encode())
    write_bytes(temporary / "SHA256SUMS", checksums(temporary).encode())
    remove(adapter.release)
    temporary.rename(adapter.release)
    sync_folder(adapter.path)
    return adapter.release


def _copy_evidence(run: RunFolder, target: Path) -> None:
    recipe = run.recipe
    shutil.copy2(recipe, target / recipe.name)
    shutil.copy2(run.report, target / run.report.name)
    for name in EVIDENCE_FILES:
        shutil.copy2(run.path / name, target / name)
    shutil.copytree(
        run.evaluation, target / "evaluation", ignore=shutil.ignore_patterns(".*", "sealed.json")
    )


def checksums(folder: Path) -> str:
    """Lines as ``sha256sum --check`` reads them, for every file of the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{file_digest(p)}  {p.relative_to(folder).as_posix()}" for p in files]
    return "\n".join(lines) + "\n"
