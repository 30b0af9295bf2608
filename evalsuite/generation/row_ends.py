"""Where the rows of a batch end, noticed while they are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalsuite.generation.answer import AnswerReader

if TYPE_CHECKING:
    import torch


class RowEnds:
    """A stopping criterion for `generate` that notes each row's end, and stops for a smaller batch.

    ``ends`` (B,) is how many new tokens a finished row has, and 0 for the others. Once no more than
    ``leave_at`` rows go on, every row is called finished: the caller goes on with those alone.
    """

    def __init__(
        self, reader: AnswerReader, ends: torch.Tensor, *, width: int, leave_at: int
    ) -> None:
        """Keep what the prompts of ``width`` tokens are followed by."""
        import torch

        self.ends = ends
        self._reader = reader
        self._width = width
        self._leave_at = leave_at
        self._stops = torch.tensor(sorted(reader.stop_token_ids), device=ends.device)

    def __call__(
        self, input_ids: torch.Tensor, _scores: torch.Tensor | None, **_: object
    ) -> torch.Tensor:
        """Which rows (B,) of ``input_ids`` (B, T) are finished."""
        import torch

        length = input_ids.shape[1] - self._width
        open_rows = self.ends == 0
        ended = open_rows & torch.isin(input_ids[:, -1], self._stops)
        if self._reader.stop:
            ended |= self._stopped(input_ids, open_rows & ~ended)
        self.ends[ended] = length
        finished = self.ends > 0
        if int((~finished).sum()) <= self._leave_at:
            return torch.ones_like(finished)
        return finished

    def _stopped(self, input_ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Which of the ``wanted`` rows hold a stop string."""
        import torch

        new = input_ids[:, self._width :].tolist()
        rows = zip(new, wanted.tolist(), strict=True)
        found = [asked and self._reader.is_stopped(row) for row, asked in rows]
        return torch.tensor(found, device=input_ids.device)
