"""A recipe file as plain values, with the place of every key and value.

YAML is read by the rules of YAML 1.2 (``yaml_reader``), JSON strictly (``json_reader``); the file's
suffix decides. Both refuse what would have to be guessed at: duplicate keys, aliases, tags, NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import Fault, RecipeError
from runner.recipe_reading.draft import DocumentSyntaxError, Draft, KeyPath, Place, Plain, show_path
from runner.recipe_reading.json_reader import read_json
from runner.recipe_reading.yaml_reader import read_yaml

SUFFIXES = (".yaml", ".yml", ".json")
# A recipe has about 3 kB. The bound keeps data given by mistake from being parsed for minutes.
_MAX_BYTES = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file's values, and where they stand.

    ``keys`` and ``values`` give the place of each key and value by key path; ``texts`` says how a
    scalar was written. ``unreadable`` are the paths whose values could not be read; ``faults`` says
    why.
    """

    file: str
    value: dict[str, Plain]
    keys: Mapping[KeyPath, Place]
    values: Mapping[KeyPath, Place]
    texts: Mapping[KeyPath, str]
    faults: tuple[Fault, ...]
    unreadable: frozenset[KeyPath]

    def key_place(self, path: KeyPath) -> Place:
        """Where the key at ``path`` stands; of a list's item, where the item stands."""
        return self.keys.get(path) or self.value_place(path)

    def value_place(self, path: KeyPath) -> Place:
        """Where the value at ``path`` stands, or the key of the nearest block around it."""
        if path in self.values:
            return self.values[path]
        return self.key_place(path[:-1])

    def fault_at_key(self, path: KeyPath, message: str) -> Fault:
        """A fault that points at the key ``path``."""
        return _fault(self.file, self.key_place(path), path, message)

    def fault_at_value(self, path: KeyPath, message: str) -> Fault:
        """A fault that points at the value of the key ``path``."""
        return _fault(self.file, self.value_place(path), path, message)


def read_document(path: Path, *, shown: str | None = None) -> Document:
    """Read a YAML or JSON file whose root is a mapping.

    Args:
        path: the file; its suffix decides how it is read.
        shown: how faults name the file; the path as given if None.

    Raises:
        RecipeError: the file is missing, unreadable, or no YAML or JSON.
    """
    # A file's name may hold bytes that are no text; a message must not.
    file = (shown or str(path)).encode("utf-8", "backslashreplace").decode()
    try:
        text = _decode(_read_bytes(path))
    except DocumentSyntaxError as error:
        raise RecipeError([_fault(file, error.place, (), error.message)]) from None
    return parse_document(text, suffix=path.suffix, file=file)


def parse_document(text: str, *, suffix: str, file: str) -> Document:
    """As ``read_document``, of text that is at hand.

    Raises:
        RecipeError: ``text`` is no YAML or JSON, or its root is no mapping.
    """
    draft = Draft()
    try:
        value = (read_json if suffix.lower() == ".json" else read_yaml)(text, draft)
        root = _root(value, draft)
    except DocumentSyntaxError as error:
        raise RecipeError([_fault(file, error.place, (), error.message)]) from None
    return Document(
        file=file,
        value=root,
        keys=draft.keys,
        values=draft.values,
        texts=draft.texts,
        faults=tuple(_fault(file, flaw.place, flaw.path, flaw.message) for flaw in draft.flaws),
        unreadable=frozenset(draft.unreadable),
    )


def _read_bytes(path: Path) -> bytes:
    """The bytes of a regular file that may be a recipe."""
    start = Place(line=1, column=1)
    try:
        if path.is_dir():
            raise DocumentSyntaxError(start, "this is a folder. Name the recipe file in it.")
        if path.exists() and path.suffix.lower() not in SUFFIXES:
            raise DocumentSyntaxError(start, "the name of a recipe ends with .yaml, .yml or .json")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise DocumentSyntaxError(start, "there is no such file") from None
    except OSError as error:
        raise DocumentSyntaxError(start, f"this cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        message = f"a recipe has at most {_MAX_BYTES // 1024} KiB, and this has more. Is it data?"
        raise DocumentSyntaxError(start, message)
    return data


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        message = "this is UTF-16, and a recipe is UTF-8. Save it as UTF-8."
        raise DocumentSyntaxError(Place(line=1, column=1), message)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        place = Place(line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))
        byte = f"0x{error.object[error.start]:02X}"
        message = f"the byte {byte} is not UTF-8. Save the file as UTF-8."
        raise DocumentSyntaxError(place, message) from None


def _root(value: Plain, draft: Draft) -> dict[str, Plain]:
    if isinstance(value, dict):
        return value
    if value is None:
        message = "the file is empty. A recipe starts with version: 1"
        raise DocumentSyntaxError(Place(line=1, column=1), message)
    what = "a list" if isinstance(value, list) else "a single value"
    message = f"a recipe is made of keys and their values, and this is {what}"
    raise DocumentSyntaxError(draft.values[()], message)


def _fault(file: str, place: Place, path: KeyPath, message: str) -> Fault:
    return Fault(
        file=file, line=place.line, column=place.column, key=show_path(path), message=message
    )
