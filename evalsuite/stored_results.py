"""Everything that was stored about one subject, read from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from evalsuite.clean_rows import Leaked, clean_losses, clean_scores
from evalsuite.errors import EvidenceError
from evalsuite.results import PartitionLoss, TaskScores, read_loss, read_task

LOSS_FILE = "loss.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResults:
    """Per-example results of one subject: losses by partition or set, scores by task."""

    losses: Mapping[str, PartitionLoss]
    tasks: Mapping[str, TaskScores]

    def groups(self) -> Iterator[tuple[str, PartitionLoss | TaskScores]]:
        """Name and results of each partition, set and task: losses first, each in name's order."""
        yield from sorted(self.losses.items())
        yield from sorted(self.tasks.items())

    def clean(self, leaked: Leaked) -> StoredResults:
        """The clean rows of every group in which some rows leak and some do not."""
        return StoredResults(
            losses=clean_losses(self.losses, leaked), tasks=clean_scores(self.tasks, leaked)
        )


def read_results(folder: Path) -> StoredResults:
    """The results in ``evaluation/<subject>``.

    Raises:
        EvidenceError: The folder is missing, or a file in it is damaged or not of this kind.
    """
    if not folder.is_dir():
        raise EvidenceError(f"{folder}: is missing; evaluate the {folder.name} first.")
    losses = folder / LOSS_FILE
    tasks = sorted(path for path in folder.glob("*.parquet") if path.name != LOSS_FILE)
    return StoredResults(
        losses=read_loss(losses) if losses.is_file() else {},
        tasks={path.stem: read_task(path) for path in tasks},
    )
