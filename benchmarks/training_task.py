"""What every trainer of the benchmark is given, and the one clock that measures them all.

Imported in each trainer's own environment: it needs nothing but torch and transformers.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KIB = 1024
STARTED = "TRAINING_BENCHMARK_STARTED"  # when the process was started, seconds since 1970
SHAPE_7B = "7b"
IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One training. ``rows`` holds token ids and labels in the order of the steps.

    ``model`` is a folder, or ``7b`` for Mistral-7B's shape with random weights on a GPU, which has
    no folder; then there is no ``adapter`` to start from either. ``warming_steps`` at the beginning
    are told apart: what is compiled or tuned there is no part of the speed.
    """

    recipe: str
    model: str
    tokenizer: str
    rows: str
    adapter: str | None
    work: str
    steps: int
    warming_steps: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    seed: int
    dtype: str
    device: str
    log_every: int
    quantization: str | None = None  # gptq-triton, gptq-torch or nf4: how ``model`` is loaded

    @property
    def on_gpu(self) -> bool:
        """Whether the training runs on CUDA."""
        return self.device == "cuda"

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises, as transformers rounds them."""
        return -int(-self.steps * self.warmup_ratio // 1)

    def save(self, path: Path) -> None:
        """Write the task for a trainer's process."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_task(path: Path) -> Task:
    """The task of a file that ``Task.save`` wrote."""
    given = json.loads(path.read_text(encoding="utf-8"))
    return Task(**{**given, "target_modules": tuple(given["target_modules"])})


def read_rows(task: Task) -> list[dict[str, Any]]:
    """Rows in the order of the steps: input_ids, labels, attention_mask."""
    with Path(task.rows).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def step_tokens(task: Task) -> list[int]:
    """Real tokens of each step where steps take the rows in their order."""
    lengths = [len(row["input_ids"]) for row in read_rows(task)]
    size = task.batch_size
    return [sum(lengths[at : at + size]) for at in range(0, len(lengths), size)]


def make_model(task: Task) -> Any:  # noqa: ANN401 - transformers' own
    """The base model; every process makes the same."""
    import torch
    from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

    dtype = getattr(torch, task.dtype)
    if task.model != SHAPE_7B:
        placed: dict[str, Any] = {"device_map": {"": 0}} if task.on_gpu else {}
        quantized = quantization_of(task.quantization)
        return AutoModelForCausalLM.from_pretrained(
            task.model, dtype=dtype, attn_implementation="sdpa", **placed, **quantized
        )
    torch.manual_seed(task.seed)
    torch.set_default_dtype(dtype)
    with torch.device(task.device):
        model = MistralForCausalLM(MistralConfig(sliding_window=None))
    torch.set_default_dtype(torch.float32)
    return model


def quantization_of(name: str | None) -> dict[str, Any]:
    """What ``from_pretrained`` is told of a quantization, the same for every trainer."""
    if name is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig, GPTQConfig

    if name == "nf4":
        config: Any = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    else:
        config = GPTQConfig(bits=4, backend=name.replace("-", "_"))
    return {"quantization_config": config}


def matmul_peak(size: int = 8192, times: int = 30) -> float:
    """Measured operations per second of bfloat16 products of ``size`` by ``size`` on the GPU."""
    import torch

    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        a @ b
    torch.cuda.synchronize()
    return 2 * size**3 * times / (time.perf_counter() - started)


def make_clock(task: Task) -> Any:  # noqa: ANN401 - a transformers callback
    """A callback for transformers' Trainer that notes when steps end, and their losses."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.begun = 0.0
            self.resident_at_begin = 0
            self.ends: list[float] = []
            self.losses: list[tuple[int, float]] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            if not self.begun:
                self.resident_at_begin = _resident()
                self.begun = time.time()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
            step = state.global_step
            # Elsewhere the GPU may run behind: waiting for it would slow every trainer down.
            if task.on_gpu and step in (task.warming_steps, state.max_steps):
                torch.cuda.synchronize()
            self.ends.append(time.time())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ANN401
            if logs and "loss" in logs:
                self.losses.append((state.global_step, float(logs["loss"])))

    return Clock()


def _resident() -> int:
    """Most memory that this process has had so far, in bytes (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


class Counting:
    """A collator that notes how many real tokens each of its batches has."""

    def __init__(self, collator: Callable[[Any], Any]) -> None:
        """Collate as ``collator`` does."""
        self.collator = collator
        self.tokens: list[int] = []

    def __call__(self, rows: Any) -> Any:  # noqa: ANN401 - whatever a trainer's rows are
        """A batch; without worker processes they are made in the order of training."""
        self.tokens.append(sum(len(row["input_ids"]) for row in rows))
        return self.collator(rows)

    def by_step(self, accumulated: int, steps: int) -> list[int]:
        """Real tokens of every optimizer step of ``accumulated`` batches."""
        starts = range(0, len(self.tokens), accumulated)
        return [sum(self.tokens[at : at + accumulated]) for at in starts][:steps]


def run_clocked(
    task: Task,
    report: Path,
    work: Callable[[], Any],
    tokens: Callable[[], Sequence[int]] | None = None,
) -> None:
    """Run ``work``, in which some Trainer of transformers trains, and write what it took.

    The real tokens of every step are what the trainer's collator is given, or what ``tokens`` says
    after the training. Running out of the GPU's memory is a result too.
    """
    import torch
    from transformers import Trainer

    clock, plain, counted = make_clock(task), Trainer.train, []

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - transformers' own
        self.add_callback(clock)
        if tokens is not None:
            return plain(self, *args, **kwargs)
        self.data_collator = counting = Counting(self.data_collator)
        result = plain(self, *args, **kwargs)
        accumulated = self.args.gradient_accumulation_steps
        counted.extend(counting.by_step(accumulated, self.state.global_step))
        return result

    peak = matmul_peak() if task.on_gpu else None
    Trainer.train = train  # type: ignore[method-assign]  # the one place that all trainers pass
    found: dict[str, Any] = {"matmul_peak": peak, "torch": torch.__version__}
    try:
        more = work()
    except torch.OutOfMemoryError as error:
        found["failed"] = f"out of memory: {str(error).splitlines()[0]}"
    else:
        found |= _measured(task, clock, list(tokens() if tokens else counted)) | (more or {})
    report.write_text(json.dumps(found), encoding="utf-8")


def _measured(task: Task, clock: Any, tokens: list[int]) -> dict[str, Any]:  # noqa: ANN401
    import torch

    warm = task.warming_steps
    if len(clock.ends) != len(tokens):
        raise SystemExit(f"{len(clock.ends)} steps were made, and {len(tokens)} were to be made")
    since = clock.ends[warm - 1] if warm else clock.begun
    seconds = clock.ends[-1] - since
    gpu = task.on_gpu
    return {
        "steps": len(tokens),
        "tokens": sum(tokens[warm:]),
        "seconds": seconds,
        "tokens_per_second": sum(tokens[warm:]) / seconds,
        "seconds_to_first_step": clock.begun - float(os.environ[STARTED]),
        "seconds_of_warming_steps": since - clock.begun,
        "peak_memory": torch.cuda.max_memory_allocated() if gpu else _resident(),
        "memory_before_steps": None if gpu else clock.resident_at_begin,
        "losses": clock.losses,
    }
