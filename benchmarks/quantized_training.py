"""LoRA on a quantized base beside the same in bfloat16, and the notebook's way, on one GPU.

    python benchmarks/quantized_training.py --base FOLDER --gptq FOLDER [--until 200]

``--base`` is what ``make_mistral.py`` wrote, a few layers of the 7B's size; ``--gptq`` is what
``proofbox quantize`` made of it. Trained are proofbox in bfloat16, on GPTQ by each kernel that can
train, and on NF4, at 64
examples a step and at 4, and transformers with PEFT and TRL as the notebook has them: padded, 4
rows at once, grouped by length, activation checkpointing, the same kernel. Rows, clock, share of
peak and order as in training.py. Layers are compiled, as a long run would have them.
Writes benchmarks/quantized-training-cuda.json after each; exits with 1 where a trainer fails.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training import run
from training_results import device_name
from training_settings import Setting, shape_task

HERE = Path(__file__).resolve().parent
LARGE, SMALL = 64, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A trainer, how its base is quantized, and its options; what ``training.run`` reads."""

    name: str
    script: str
    batch_size: int
    quantization: str | None = None
    options: tuple[str, ...] = ()
    python: str = sys.executable


def ways() -> list[Way]:
    """The most important first."""

    def ours(quantization: str | None, batch_size: int) -> Way:
        name = f"proofbox, {quantization or 'bf16'}, {batch_size}"
        script = "train_with_proofbox.py"
        return Way(name=name, script=script, batch_size=batch_size, quantization=quantization)

    def notebook(batch_size: int, *options: str) -> Way:
        return Way(
            name=f"the notebook's way, gptq-triton, {batch_size}",
            script="train_with_trl.py",
            batch_size=batch_size,
            quantization="gptq-triton",
            options=("--checkpointing", "--grouped", *options),
        )

    return [
        ours(None, LARGE),
        ours("gptq-triton", LARGE),
        notebook(LARGE, "--micro", str(SMALL)),
        ours("nf4", LARGE),
        ours("gptq-torch", LARGE),
        ours("gptq-triton", SMALL),
        notebook(SMALL),
    ]


def comparisons(speeds: dict[str, float]) -> list[dict[str, Any]]:
    """What issue 6 asks of the speeds: quotient, wanted, met."""
    asked = [
        ("proofbox, gptq-triton, 64", "proofbox, bf16, 64", 0.95),
        ("proofbox, gptq-torch, 64", "proofbox, bf16, 64", 0.95),
        ("proofbox, nf4, 64", "proofbox, bf16, 64", 0.75),
        ("proofbox, gptq-triton, 64", "the notebook's way, gptq-triton, 64", 3.0),
        ("proofbox, gptq-triton, 4", "the notebook's way, gptq-triton, 4", 2.0),
    ]
    return [
        {
            "what": f"{ours} by {theirs}",
            "value": speeds[ours] / speeds[theirs],
            "wanted": wanted,
            "met": speeds[ours] / speeds[theirs] >= wanted,
        }
        for ours, theirs, wanted in asked
        if ours in speeds and theirs in speeds
    ]


def main() -> None:
    """Train by every way, print and store what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--gptq", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warming-steps", type=int, default=4)
    parser.add_argument("--until", type=float, help="seconds after which none is begun")
    parser.add_argument("--result", type=Path, default=HERE / "quantized-training-cuda.json")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="quantized-benchmark-"))
    began, found = time.monotonic(), {}
    try:
        for number, way in enumerate(ways()):
            if options.until and time.monotonic() - began > options.until:
                print(f"{way.name}: left out, the time is over", flush=True)
                continue
            steps = options.steps * (1 if way.batch_size == LARGE else 5)
            setting = Setting(
                name=f"way-{number}",
                batch_size=way.batch_size,
                steps=steps,
                warming_steps=options.warming_steps,
                log_every=options.warming_steps,
            )
            place = options.gptq if (way.quantization or "").startswith("gptq") else options.base
            task = replace(
                shape_task(setting, folder / setting.name),
                model=str(place),
                quantization=way.quantization,
            )
            result = run(way, task, folder / "work", threads=8)
            found[way.name] = result
            speed = result.get("failed") or f"{result['tokens_per_second']:,.0f} tokens/s"
            print(f"{way.name}: {speed}", flush=True)
            write(found, options.result)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if any("failed" in result for result in found.values()):
        raise SystemExit("a trainer failed; see above")


def write(found: dict[str, Any], path: Path) -> None:
    """Store what there is so far, and say what it comes to."""
    speeds = {
        name: result["tokens_per_second"]
        for name, result in found.items()
        if "failed" not in result
    }
    compared = comparisons(speeds)
    stored = {"device": device_name("cuda"), "ways": found, "comparisons": compared}
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    for comparison in compared:
        print("  {what}: {value:.2f} (wanted: {wanted})".format(**comparison), flush=True)


if __name__ == "__main__":
    main()
