"""The release: only what was judged, file by file, with checksums and a statement about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.leaks.leak_report import LEAKED_FILE
from runner.digests import file_digest
from runner.errors import MachineError
from runner.run_folder import RunFolder, remove
from runner.statement import CHECKSUMS, ENVELOPE, STATEMENT, Fit, released_files, statement_of
from runner.stored_json import read_json, sync_folder, write_bytes, write_json
from runner.subject_evaluation import is_sealed
from runner.target import read_target
from runner.training.adapter_files import folder_digest
from runner.training.train_adapter import read_training

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RECORDS = ("lock.json", "data.json", "evidence.json", "verdict.json")
# Proof that an adapter, read back from disk, is the one that was trained; and how it was trained.
TRAINED = ("training.json", "reload.json")
LEAKED = f"listings/{LEAKED_FILE}"
# The third is the last released adapter, where a gate compares with it.
SUBJECTS = ("base", "adapter", "release")


def check_evidence(run: RunFolder, judged: str | None) -> None:
    """The adapter that was judged is the one that lies there, and its evaluations are whole.

    Raises:
        MachineError: something changed since; the message names it.
    """
    if _expected_digests(run)[0] != judged:
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
    expected = _expected_digests(adapter)
    for folder, digest in zip((adapter.adapter, adapter.tokenizer), expected, strict=True):
        if not folder.is_dir() or folder_digest(folder) != digest:
            raise MachineError(
                f"{folder}: not the one that was judged: a file changed since the training. "
                "It will not be released."
            )
    if adapter.target.is_file():  # trained elsewhere: there was no adapter in memory to compare
        return
    if read_json(adapter.reload)["adapter_digest"] != expected[0]:
        raise MachineError(
            f"{adapter.reload}: no proof that this adapter, read back from disk, is the one that "
            "was trained. It will not be released."
        )


def _expected_digests(folder: RunFolder) -> tuple[str, str | None]:
    """Digests of adapter and tokenizer, as they were recorded."""
    if folder.target.is_file():
        target = read_target(folder.target)
        return target.digest, target.tokenizer_digest
    training = read_training(folder)
    return training.adapter_digest, training.tokenizer_digest


def make_release(
    run: RunFolder, adapter: RunFolder, *, card: str, key: Ed25519PrivateKey | None = None
) -> Path:
    """Pack the release folder of ``adapter`` (the run itself, or its final fit) in one step.

    The same records give the same bytes.

    Args:
        run: The gated run; its recipe, lock, evidence, verdict and report go along.
        adapter: Where the adapter to ship lies.
        card: Text of the model card.
        key: Signs the statement of the release. Without one, an earlier signature stays if it is
            over the same statement.

    Raises:
        MachineError: the adapter on disk is not the one that was judged.
    """
    check_adapter(adapter)
    temporary = adapter.path / ".release"
    remove(temporary)
    shutil.copytree(adapter.adapter, temporary)
    shutil.copytree(adapter.tokenizer, temporary, dirs_exist_ok=True)
    _copy_evidence(run, temporary)
    if adapter.path != run.path:
        for name in TRAINED:
            _copy(adapter.path / name, temporary / adapter.path.name / name)
    write_bytes(temporary / "README.md", card.encode())
    _write_statement(temporary, adapter, fit="judged" if adapter.path == run.path else "final")
    if key is not None:
        sign_release(temporary, key)
    else:
        _keep_signature(adapter.release, temporary)
    write_bytes(temporary / CHECKSUMS, checksums(temporary).encode())
    remove(adapter.release)
    temporary.rename(adapter.release)
    sync_folder(adapter.path)
    return adapter.release


def _copy_evidence(run: RunFolder, target: Path) -> None:
    origin = (run.target.name,) if run.target.is_file() else TRAINED
    for name in (run.recipe.name, run.report.name, *RECORDS, *origin, LEAKED):
        _copy(run.path / name, target / name)
    shutil.copytree(
        run.evaluation, target / "evaluation", ignore=shutil.ignore_patterns(".*", "sealed.json")
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        raise MachineError(
            f"{source}: this file is missing from the run folder. Run the recipe again."
        ) from None


def _write_statement(release: Path, adapter: RunFolder, *, fit: Fit) -> None:
    statement = statement_of(
        release,
        fit=fit,
        adapter_files=_names(adapter.adapter),
        tokenizer_files=_names(adapter.tokenizer),
    )
    write_json(release / STATEMENT, statement)


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def sign_release(release: Path, key: Ed25519PrivateKey) -> None:
    """Put a signature by ``key`` over the release's statement beside it."""
    from runner.signature import signed_envelope

    envelope = signed_envelope((release / STATEMENT).read_bytes(), key)
    write_bytes(release / ENVELOPE, json.dumps(envelope, sort_keys=True, indent=1).encode() + b"\n")


def _keep_signature(before: Path, release: Path) -> None:
    """Packing the same release again must not take its signature away."""
    envelope, statement = before / ENVELOPE, before / STATEMENT
    if not (envelope.is_file() and statement.is_file()):
        return
    if statement.read_bytes() == (release / STATEMENT).read_bytes():
        shutil.copy2(envelope, release / ENVELOPE)


def checksums(folder: Path) -> str:
    """Lines as ``sha256sum --check`` reads them, for every file of the folder."""
    files = released_files(folder)
    lines = [f"{file_digest(path)}  {name}" for name, path in files.items() if name != CHECKSUMS]
    return "\n".join(lines) + "\n"
