"""A benchmark's rows as a file of conversations, one a row, or one for each of its choices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.benchmarks.asked_row import AskedRow
from runner.benchmarks.few_shot import Shot, shown_shots, with_shots
from runner.data.formats.conversation import Conversation
from runner.data.reading.row_store import value_key
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from runner.recipe import Benchmark, Columns, Rows

if TYPE_CHECKING:
    import pyarrow as pa

# Columns that evaluation reads, in the file as they are called by their role.
_ROLES = ("tests", "slice", "cluster")
TOOLS = "tools"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedConversations:
    """Conversations with few-shot rows in them.

    ``asked`` [conversations] are the numbers of the benchmark's rows that they ask, ``choices``
    [conversations] the places of the choices that they answer with (0 where one is generated).
    """

    block: Benchmark
    rows: tuple[AskedRow, ...]
    conversations: tuple[Conversation, ...]
    asked: tuple[int, ...]
    choices: tuple[int, ...]

    @classmethod
    def of(
        cls, block: Benchmark, rows: Sequence[AskedRow], shots: Sequence[Shot]
    ) -> AskedConversations:
        """Every row with its shots.

        Raises:
            DataError: shots cannot be shown before a row.
        """
        made: list[tuple[int, int, Conversation]] = []
        for number, row in enumerate(rows):
            try:
                made += [(number, *one) for one in _conversations(block, row, shots)]
            except RowError as error:
                raise DataError(f"row {number}: {error}") from None
        return cls(
            block=block,
            rows=tuple(rows),
            conversations=tuple(conversation for _, _, conversation in made),
            asked=tuple(number for number, _, _ in made),
            choices=tuple(choice for _, choice, _ in made),
        )

    def write(self, path: Path) -> None:
        """Write them as JSON Lines of format messages."""
        lines = (json.dumps(line, ensure_ascii=False) for line in self._lines())
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def dataset(self, path: Path) -> Rows:
        """The block that reads what ``write`` wrote to ``path``."""
        named = {role: role for role in _ROLES if self._has(role)}
        tools = TOOLS if any(c.tools for c in self.conversations) else None
        return Rows(
            source=str(path.resolve()),
            format="messages",
            columns=Columns(tools=tools, **named),
            violations=self.block.dataset.violations,
        )

    def _has(self, role: str) -> bool:
        return any(row.columns[role] for row in self.rows)

    def _lines(self) -> Iterator[dict[str, Any]]:
        for number, conversation in zip(self.asked, self.conversations, strict=True):
            columns = {k: v for k, v in self.rows[number].columns.items() if self._has(k)}
            yield {
                "messages": conversation.messages,
                **({TOOLS: conversation.tools} if conversation.tools else {}),
                **columns,
            }

    def item_ids(self) -> list[str]:
        """An id for each of the benchmark's rows, by what it asks and offers."""
        ids: list[str] = []
        seen: dict[int, int] = {}
        for row in self.rows:
            asked = row.conversation
            key = value_key([asked.messages, asked.tools, row.choices, row.gold])
            seen[key] = copies = seen.get(key, -1) + 1
            ids.append(f"{key:016x}-{copies}" if copies else f"{key:016x}")
        return ids

    def choice_table(self) -> pa.Table:
        """What each conversation stands for, for `evalsuite.multiple_choice` to read."""
        import pyarrow as pa

        ids, rows = self.item_ids(), self.rows
        pairs = list(zip(self.asked, self.choices, strict=True))
        return pa.table(
            {
                "row": pa.array(range(len(pairs)), pa.int64()),
                "item": pa.array(self.asked, pa.int64()),
                "example_id": pa.array([ids[n] for n in self.asked], pa.string()),
                "choice": pa.array(self.choices, pa.int64()),
                "gold": pa.array([rows[n].gold == c for n, c in pairs], pa.bool_()),
                "text": pa.array([rows[n].choices[c] for n, c in pairs], pa.string()),
            }
        )


def _conversations(
    block: Benchmark, row: AskedRow, shots: Sequence[Shot]
) -> Iterator[tuple[int, Conversation]]:
    """The row with each of its choices, or with its answer."""
    shown = shown_shots(row, shots, block.few_shot) if block.few_shot else ()
    answered = [row.answered(f"{block.delimiter}{text}") for text in row.choices]
    for choice, asked in enumerate(answered or [row.conversation]):
        messages = with_shots(asked, shown, block)
        yield choice, Conversation(messages=messages, tools=asked.tools)
