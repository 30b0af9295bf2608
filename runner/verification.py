"""Whether a release's files are those that its checksums, statement and signature speak of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.digests import digest_of_json, file_digest
from runner.errors import MachineError, RecipeError, UsageError
from runner.recipe import Recipe
from runner.recipe_reading.recipe_file import read_recipe
from runner.release import LEAKED, RECORDS, TRAINED
from runner.run_folder import RunFolder
from runner.signature import SignatureError, check_envelope
from runner.statement import (
    CHECKSUMS,
    ENVELOPE,
    NOT_SUBJECTS,
    PREDICATE_TYPE,
    STATEMENT,
    STATEMENT_TYPE,
    released_files,
    statement_of,
)
from runner.stored_json import read_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# Files of a release beside adapter, tokenizer and what lies in evaluation/.
_RECORDS = (
    "README.md", "recipe.yaml", "recipe.json", "report.html", LEAKED, "subject.json",
    *RECORDS, *TRAINED, *(f"final/{name}" for name in TRAINED),
)  # fmt: skip
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One thing in a release that is not as something else in it says."""

    file: str
    reason: str

    def __str__(self) -> str:
        """``file: reason``."""
        return f"{self.file}: {self.reason}"


def open_release(path: Path) -> Path:
    """The release folder at ``path``.

    Raises:
        UsageError: it is no release folder.
    """
    if (path / STATEMENT).is_file() or (path / CHECKSUMS).is_file():
        return path
    if (path / "release").is_dir():
        raise UsageError(f"{path}: a run folder. Its release is {path / 'release'}")
    raise UsageError(f"{path}: not a release folder (it has neither {STATEMENT} nor {CHECKSUMS})")


def check_checksums(release: Path) -> Iterator[Disagreement]:
    """Every file is listed with its digest, and every listed file is there."""
    listed = {}
    try:
        lines = (release / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        yield Disagreement(file=CHECKSUMS, reason="is missing or not a text")
        return
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        if found is None or found[2] in listed:
            yield Disagreement(file=CHECKSUMS, reason=f"line {number} is no digest of one file")
            continue
        listed[found[2]] = found[1]
    yield from _compared(release, listed, CHECKSUMS, without=(CHECKSUMS,))


def _compared(
    release: Path, listed: Mapping[str, str], by: str, *, without: tuple[str, ...]
) -> Iterator[Disagreement]:
    """Files of the release against the digests that ``by`` lists."""
    present = released_files(release)
    for name in sorted({*listed, *present} - set(without)):
        if name not in present:
            yield Disagreement(file=name, reason=f"is missing; {by} lists it")
        elif name not in listed:
            yield Disagreement(file=name, reason=f"was added; {by} does not list it")
        elif not present[name].is_file():
            yield Disagreement(file=name, reason="is not a file")
        elif file_digest(present[name]) != listed[name]:
            yield Disagreement(file=name, reason=f"is not the file whose digest {by} lists")


def check_statement(release: Path) -> Iterator[Disagreement]:
    """The statement's subjects are the files, and what it says was decided is what they say."""
    try:
        stated = read_json(release / STATEMENT)
        subjects = {s["name"]: s["digest"]["sha256"] for s in stated["subject"]}
        if len(subjects) != len(stated["subject"]):
            raise KeyError("a file is among the subjects twice")
        released = stated["predicate"]["released"]
        kinds = (stated["_type"], stated["predicateType"])
    except (MachineError, KeyError, TypeError) as error:
        yield Disagreement(file=STATEMENT, reason=f"is missing or damaged ({error})")
        return
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        yield Disagreement(file=STATEMENT, reason=f"is of another type: {' of '.join(kinds)}")
        return
    found = list(_compared(release, subjects, STATEMENT, without=NOT_SUBJECTS))
    yield from found
    if not found:  # otherwise the records below are not those that were stated
        yield from _compared_decision(release, stated, released)


def _compared_decision(
    release: Path, stated: Mapping[str, Any], released: Mapping[str, Any]
) -> Iterator[Disagreement]:
    """The statement, made again from the files, is the statement."""
    try:
        again = statement_of(
            release,
            fit=released["fit"],
            adapter_files=released["adapterFiles"],
            tokenizer_files=released["tokenizerFiles"],
        )
    except (MachineError, KeyError, TypeError) as error:
        yield Disagreement(file=STATEMENT, reason=f"cannot be made again from the files ({error})")
        return
    for key in sorted({*stated["predicate"], *again["predicate"]}):
        first, second = stated["predicate"].get(key), again["predicate"].get(key)
        if first != second:
            yield Disagreement(file=STATEMENT, reason=f"{key} is not what the released files say")


def check_signature(release: Path, key: Ed25519PublicKey) -> Iterator[Disagreement]:
    """The statement beside it is signed by ``key``."""
    if not (release / ENVELOPE).is_file():
        yield Disagreement(file=ENVELOPE, reason="is missing: this release is not signed")
        return
    try:
        check_envelope((release / ENVELOPE).read_bytes(), (release / STATEMENT).read_bytes(), key)
    except SignatureError as error:
        yield Disagreement(file=ENVELOPE, reason=str(error))
    except FileNotFoundError:
        yield Disagreement(file=STATEMENT, reason="is missing: there is nothing to be signed")


def check_envelope_payload(release: Path) -> Iterator[Disagreement]:
    """Without a key: where there is an envelope, it holds the statement beside it."""
    import base64

    if not (release / ENVELOPE).is_file():
        return
    try:
        envelope = json.loads((release / ENVELOPE).read_bytes())
        same = base64.b64decode(envelope["payload"]) == (release / STATEMENT).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        yield Disagreement(file=ENVELOPE, reason="is not a DSSE envelope")
        return
    if not same:
        yield Disagreement(file=ENVELOPE, reason="signs another statement than the one beside it")


def given_recipe(folder: Path) -> Recipe:
    """The recipe as it was given, from its copy in a run or a release.

    Raises:
        MachineError: it is missing, or this version cannot read it.
    """
    file = RunFolder(folder).recipe
    try:
        return read_recipe(file, shown=file.name)
    except RecipeError as error:
        raise MachineError(f"{file}: cannot be read by this version: {error}") from None


def locked_recipe(folder: Path) -> Recipe:
    """The recipe as the lock resolved it; a key that is newer than the lock has its default.

    Raises:
        MachineError: the lock is missing or damaged, or this version cannot read its recipe.
    """
    path = folder / "lock.json"
    try:
        return Recipe.model_validate_json(json.dumps(read_json(path)["recipe"]))
    except ValueError as error:
        raise MachineError(f"{path}: recipe cannot be read by this version: {error}") from None


def check_recipe(release: Path) -> Iterator[Disagreement]:
    """The recipe as given is the one that the lock resolved."""
    lock = read_json(release / "lock.json")
    if digest_of_json(lock["recipe"]) != lock["recipe_digest"]:
        yield Disagreement(file="lock.json", reason="recipe is not the one of recipe_digest")
    given, locked = given_recipe(release), locked_recipe(release)
    for key in Recipe.model_fields:
        if getattr(given, key) != getattr(locked, key):
            file = RunFolder(release).recipe.name
            yield Disagreement(file=file, reason=f"{key} is not what lock.json resolved")


def check_adapter(release: Path) -> Iterator[Disagreement]:
    """The released adapter is the judged one, or the fit on all data that followed it.

    Its tokenizer is the one that was recorded with it.
    """
    released = read_json(release / STATEMENT)["predicate"]["released"]
    judged = read_json(release / "verdict.json")["adapter_digest"]
    if recorded_digests(release)[0] != judged:
        yield Disagreement(
            file="verdict.json", reason="judges another adapter than the one on record"
        )
    final = release / "final" if released["fit"] == "final" else release
    if not (release / "subject.json").is_file():
        yield from _reloaded(final, release)
    for what, digest in zip(("adapter", "tokenizer"), recorded_digests(final), strict=True):
        if released[f"{what}Digest"] != digest:
            yield Disagreement(
                file=", ".join(released[f"{what}Files"]), reason=f"not the {what} that was judged"
            )


def _reloaded(folder: Path, release: Path) -> Iterator[Disagreement]:
    """The proof that an adapter on disk is what was trained is about the adapter on record."""
    if read_json(folder / "reload.json")["adapter_digest"] != recorded_digests(folder)[0]:
        name = (folder / "reload.json").relative_to(release).as_posix()
        yield Disagreement(file=name, reason="is about another adapter than training.json")


def check_names(release: Path) -> Iterator[Disagreement]:
    """Nothing lies beside adapter, tokenizer and records: a loader might take it for theirs."""
    released = read_json(release / STATEMENT)["predicate"]["released"]
    known = {*released["adapterFiles"], *released["tokenizerFiles"], *NOT_SUBJECTS, *_RECORDS}
    for name in released_files(release):
        if name not in known and not name.startswith("evaluation/"):
            yield Disagreement(file=name, reason="is no part of a release")


def recorded_digests(folder: Path) -> tuple[str, str | None]:
    """Digests of adapter and tokenizer by the record of the training, or of where it was found."""
    if (folder / "subject.json").is_file():
        found = read_json(folder / "subject.json")
        return found["digest"], found["tokenizer_digest"]
    found = read_json(folder / "training.json")
    return found["adapter_digest"], found["tokenizer_digest"]
