"""The ledger of looks: how many times a held-out partition has decided whether gates hold.

Every look at the same rows makes it likelier that one of the adapters passes by luck. The ledger is
a small file beside the recipe, committed with it: one JSON object a line, in order, so that entries
of two branches merge by keeping both. The same evidence judged again by the same gates is not
another look; by other gates it is: a claim changed once its figures are known is one more try.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from evalsuite.errors import EvidenceError
from evalsuite.record_files import write_atomically
from evalsuite.records import GateVerdict


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Look:
    """One time that a partition decided: when, which run, what came of it.

    ``partition_digest`` is that of its membership, so that two recipes on the same rows share their
    looks. ``gates_digest`` is that of what was claimed about it. ``date`` is in UTC.
    """

    date: str
    recipe: str
    run_id: str
    partition: str
    partition_digest: str
    verdict: GateVerdict
    evidence_digest: str
    gates_digest: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it a look of its own."""
        return self.partition_digest, self.evidence_digest, self.gates_digest


def read_ledger(path: Path) -> tuple[Look, ...]:
    """The looks in a ledger, in the order of their dates; none where there is no file.

    Raises:
        EvidenceError: A line is no entry; names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise EvidenceError(f"{path}: cannot be read as a ledger: {error}.") from error
    looks = (_look(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line)
    return tuple(sorted(looks))


def _look(line: str, where: str) -> Look:
    names = [field.name for field in fields(Look)]
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    whole = isinstance(entry, dict) and sorted(entry) == sorted(names)
    if not whole or not all(isinstance(entry[name], str) for name in names):
        raise EvidenceError(
            f"{where}: is no entry of the ledger of looks, which is one JSON object with "
            f"{', '.join(names)}. If two branches were merged, keep the lines of both and remove "
            "the marks."
        )
    return Look(**entry)


def note_looks(path: Path, looks: Sequence[Look]) -> tuple[Look, ...]:
    """Add looks to a ledger, those that it has already left out; returns all that it then holds.

    Raises:
        EvidenceError: The ledger is damaged.
        OSError: It cannot be written.
    """
    with _held(path.parent):
        known = read_ledger(path)
        keys = {look.key for look in known}
        new = [look for look in looks if look.key not in keys]
        if not new:
            return known
        every = tuple(sorted([*known, *new]))
        write_atomically("".join(map(_line, every)).encode(), path)
    return every


def _line(look: Look) -> str:
    return json.dumps(asdict(look), sort_keys=True, ensure_ascii=False) + "\n"


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Two runs that end at once write one after the other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def count_looks(looks: Iterable[Look], key: tuple[str, str, str]) -> int:
    """Which look at its partition the one with ``key`` is: the first is 1.

    Later looks do not count, so that a run judged again tells the same.

    Raises:
        EvidenceError: There is no such look.
    """
    at_it = [look.key for look in sorted(looks) if look.key[0] == key[0]]
    if key not in at_it:
        raise EvidenceError(f"the ledger holds no look at {key[0][:12]} with {key[1][:12]}.")
    return list(dict.fromkeys(at_it)).index(key) + 1
