"""Faults found in rows, gathered so that a user sees all kinds at once and a few rows of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.errors import DataError

SHOWN = 5


@dataclass(slots=True)
class RowFaults:
    """Counts faults by kind and keeps the places of the first few of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str) -> None:
        """Note one fault of ``kind`` at ``place`` (a row, or a file and line)."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        shown = self.places.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(place)

    def lines(self) -> list[str]:
        """One line for each kind of fault, in the order they were first met."""
        return [self._line(kind) for kind in self.counts]

    def _line(self, kind: str) -> str:
        count, shown = self.counts[kind], self.places[kind]
        more = f", … ({count:,} in all)" if count > len(shown) else ""
        return f"{kind}: {', '.join(shown)}{more}"

    def raise_if_any(self, heading: str) -> None:
        """Raise DataError with ``heading`` and every kind of fault, if there is any."""
        if self.counts:
            raise DataError("\n".join([heading, *(f"  {line}" for line in self.lines())]))
