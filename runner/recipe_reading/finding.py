"""One thing wrong with a document, before it is tied to a line of its file."""

from __future__ import annotations

from dataclasses import dataclass

from runner.errors import Fault
from runner.recipe_reading.document import Document
from runner.recipe_reading.draft import KeyPath


def sentences(first: str, *more: str) -> str:
    """A message of one sentence, without a full stop, or of several; empty ones are left out."""
    rest = " ".join(filter(None, more))
    return f"{first.removesuffix('.')}. {rest}" if rest else first


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong at a key path.

    ``at_key`` points at the key and not at its value. ``stray`` says that the schema has no such
    key; ``meant`` is then the path that was probably meant: nobody should complain that this one is
    missing.
    """

    path: KeyPath
    message: str
    at_key: bool = False
    stray: bool = False
    meant: KeyPath | None = None

    def fault(self, document: Document) -> Fault:
        """The fault in ``document``'s file."""
        if self.at_key:
            return document.fault_at_key(self.path, self.message)
        return document.fault_at_value(self.path, self.message)
