"""The benchmarks of a recipe, found: their blocks, where their paths start, their rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.extra_sets import resolve_set
from runner.data.reading.sources import SourceRecord
from runner.digests import digest_of_json, file_digest
from runner.errors import DataError, MachineError
from runner.metric_files import metric_identities
from runner.recipe import Benchmark, Recipe
from runner.recipe_reading.benchmark_file import read_benchmark

# Keys of a recipe's template -> those of a benchmark.
_KEYS = {
    "user": "prompt",
    "assistant": "answer",
    **{key: key for key in ("system", "chat", "max_length", "too_long")},
}
# What is advised about a recipe's dataset, and does not help here.
_OF_THE_DATASET = " `proofbox preview RECIPE --violations` shows each."


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBenchmark:
    """One benchmark of a recipe with its rows found.

    ``file`` is its own as the recipe names it, or None where it is written in the recipe;
    ``folder`` is where its paths start. ``shots`` are the rows of ``few_shot.source``.
    """

    block: Benchmark
    file: str | None
    folder: Path
    source: SourceRecord
    shots: SourceRecord | None

    @property
    def name(self) -> str:
        """What a gate calls it."""
        return self.block.name

    @property
    def chat(self) -> str | None:
        """``chat``, a path as one that does not depend on where it is read from."""
        chat = self.block.chat
        is_path = chat is not None and chat.endswith(".jinja")
        return str((self.folder / str(chat)).resolve()) if is_path else chat

    @property
    def digest(self) -> str:
        """Digest of all that its figures depend on but for the recipe: its text and its rows."""
        return digest_of_json(
            {
                "block": self.block.model_dump(mode="json", exclude={"description", "leaks"}),
                "chat": self._chat_digest,
                "rows": self.source.digest,
                "shots": None if self.shots is None else self.shots.digest,
                "metrics": metric_identities(self.block.metrics, self.folder),
            }
        )

    @property
    def _chat_digest(self) -> str | None:
        """Digest of a chat template of its own."""
        if self.chat is None or not self.chat.endswith(".jinja"):
            return None
        try:
            return file_digest(Path(self.chat))
        except OSError as error:
            raise MachineError(f"{self.chat}: cannot be read: {error.strerror}") from None

    def as_json(self) -> dict[str, Any]:
        """What ``lock.json`` keeps of it: nothing that differs by machine."""
        return {
            "file": self.file,
            "digest": self.digest,
            "block": self.block.model_dump(mode="json"),
            "data": self.source.as_json(),
            "shots": None if self.shots is None else self.shots.as_json(),
        }


def resolve_benchmarks(recipe: Recipe, base_folder: Path) -> tuple[NamedBenchmark, ...]:
    """Read the benchmarks that a recipe names, and find the rows of all.

    Raises:
        RecipeError: a benchmark file is wrong.
        DataError, MachineError: rows cannot be found; the message names the benchmark.
    """
    found = []
    for given in recipe.evaluation.benchmarks:
        file, folder = (given, (base_folder / given).parent) if isinstance(given, str) else (
            None,
            base_folder,
        )  # fmt: skip
        block = read_benchmark(base_folder / given) if isinstance(given, str) else given
        with told_of(block.name):
            rows = block.dataset
            shots = block.few_shot.source if block.few_shot else None
            found.append(
                NamedBenchmark(
                    block=block,
                    file=file,
                    folder=folder,
                    source=resolve_set(rows, folder),
                    shots=None
                    if shots is None
                    else resolve_set(rows.model_copy(update={"source": shots}), folder),
                )
            )
    return tuple(found)


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Errors about data name the benchmark, and its own keys."""
    try:
        yield
    except DataError as error:
        raise DataError(f"benchmark {name}: {in_its_keys(str(error))}") from None
    except MachineError as error:
        raise MachineError(f"benchmark {name}: {error}") from None


def in_its_keys(message: str) -> str:
    """``message`` with the keys of a benchmark where it has those of a recipe's template."""
    for key, own in _KEYS.items():
        message = message.replace(f"template.{key}", own)
    return message.replace(_OF_THE_DATASET, "")
