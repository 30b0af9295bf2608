"""Rows of prepared data as people see them: tokens as text, with what is special and supervised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.data.labels.context_decoder import ContextDecoder
from runner.data.labels.labelled_rows import UNSUPERVISED
from runner.data.labels.special_tokens import special_tokens
from runner.data.prepared_data import PreparedData
from runner.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COLUMNS = ["row", "input_ids", "labels", "prompt_ids"]
CHARACTER_TOKENS = 4  # a character has at most 4 bytes in UTF-8, and a token at least one of them
HALF_CHARACTER = "\ufffd"  # what decoders write for bytes that are no whole character


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewToken:
    """A token as text; ``special`` ones are no text of the row."""

    text: str
    supervised: bool
    special: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRow:
    """A source row that became an example; ``prompt_tokens`` of its tokens are the prompt."""

    row: int
    partition: str
    tokens: tuple[PreviewToken, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class RowReader:
    """Reads examples back from the files of prepared data."""

    data: PreparedData
    tokenizer: PreTrainedTokenizerBase

    def first(self, partition: str, rows: int) -> list[PreviewRow]:
        """The first ``rows`` examples of a partition.

        Raises:
            UsageError: the partition has none.
        """
        from pyarrow import parquet

        if partition not in self.data.partitions:
            made = ", ".join(self.data.partitions) or "none"
            raise UsageError(
                f"--partition {partition}: the data has no such examples, but {made}. "
                "--violations shows rows that were left out."
            )
        with parquet.ParquetFile(self.data.path(partition)) as file:
            batches = file.iter_batches(batch_size=rows, columns=_COLUMNS)
            found = next(batches).to_pylist()
        return [self._example(partition, values) for values in found]

    def numbered(self, rows: Iterable[int]) -> dict[int, PreviewRow]:
        """The examples of these source rows, as far as they became examples."""
        from pyarrow import parquet

        wanted = [("row", "in", sorted(set(rows)))]
        if not wanted[0][2]:
            return {}
        found: dict[int, PreviewRow] = {}
        for name, path in self.data.paths.items():
            table = parquet.read_table(path, columns=_COLUMNS, filters=wanted)
            for values in table.to_pylist():
                found.setdefault(values["row"], self._example(name, values))
        return found

    def _example(self, partition: str, values: Mapping[str, Any]) -> PreviewRow:
        return PreviewRow(
            row=values["row"],
            partition=partition,
            tokens=self.tokens(values["input_ids"], values["labels"]),
            prompt_tokens=len(values["prompt_ids"]),
        )

    def tokens(self, ids: Sequence[int], labels: Sequence[int]) -> tuple[PreviewToken, ...]:
        """Token ids [n] with their labels [n] as text; the texts join to the whole.

        The bytes of one character may be spread over several tokens: the last of them then shows
        the character, the others nothing.
        """
        supervised = [label != UNSUPERVISED for label in labels]
        texts = self._decoder.texts([[token] for token in ids])
        shown: list[PreviewToken] = []
        pending: list[int] = []
        for place, token in enumerate(ids):
            pending.append(token)
            text = texts[place] if len(pending) == 1 else self._decoder.texts([pending])[0]
            last = place + 1 == len(ids) or supervised[place + 1] != supervised[place]
            half = HALF_CHARACTER in text and len(pending) < CHARACTER_TOKENS and not last
            shown.append(
                PreviewToken(
                    text="" if half else text,
                    supervised=supervised[place],
                    special=token in self._special,
                )
            )
            pending = pending if half else []
        return tuple(shown)

    @cached_property
    def _decoder(self) -> ContextDecoder:
        return ContextDecoder(self.tokenizer)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(special_tokens(self.tokenizer).values())
