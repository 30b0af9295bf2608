"""What a run calls in a fresh process to quantize its base model (runner/quantizing)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console

from runner.errors import ExitCode
from runner.progress import Progress
from runner.quantizing.quantizing_job import QuantizingResult, read_job
from runner.stored_json import write_json


def quantize_base_command(scratch: Path, checkpoint: Path) -> ExitCode:
    """Do the job in ``scratch``: quantize into ``checkpoint``, check it, and leave the result.

    Raises:
        MachineError: gptqmodel cannot quantize this base.
        DefectError: the checkpoint is not what was asked for.
    """
    from runner.base_model.loaded_model import memory_explained, quiet_libraries

    with _library_output(scratch / "gptqmodel.log") as terminal:
        from runner.quantizing.gptq_rounding import round_weights
        from runner.quantizing.quantized_base import JOB, RESULT
        from runner.quantizing.quantized_files import finish_files
        from runner.quantizing.reload_check import check_checkpoint

        quiet_libraries()
        job = read_job(scratch / JOB)
        progress = Progress(console=Console(file=terminal, highlight=False, soft_wrap=True))
        with (
            progress.bar("quantizing") as advance,
            memory_explained("quantization.calibration.max_length"),
        ):
            advance(0, 1, "loading the base model")
            rounded = round_weights(job, checkpoint, lambda done, of: advance(done, of, "layers"))
            finish_files(job, checkpoint)
            advance(0, 1, "reading the checkpoint back")
            check = check_checkpoint(job, rounded.weights, checkpoint)
        result = QuantizingResult(modules=rounded.modules, reload=check)
        write_json(scratch / RESULT, result.as_json())
    return ExitCode.PASS


@contextmanager
def _library_output(log: Path) -> Iterator[TextIO]:
    """What libraries print goes to ``log``, also from C; gives the standard error that was."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with log.open("w") as file, os.fdopen(os.dup(2), "w", buffering=1) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, number in zip(before, (1, 2), strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
