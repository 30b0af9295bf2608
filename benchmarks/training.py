"""The same training by proofbox, by TRL's SFTTrainer, by axolotl and by LLaMA-Factory.

    python benchmarks/training.py --trl-python /tmp/bench-trl/bin/python \
        --axolotl-python /tmp/bench-axolotl/bin/python \
        --llamafactory-python /tmp/bench-llamafactory/bin/python [--repeats 3] [--steps 100]
    python benchmarks/training.py --device cuda --shape 7b     # proofbox and TRL, under 9 minutes

The rivals live in environments of their own, made with Python 3.11 as data_preparation.py says
(TRL with peft besides), and

    python -m venv /tmp/bench-llamafactory
    /tmp/bench-llamafactory/bin/pip install -c torch.txt llamafactory==0.9.5

Each keeps what it pins of transformers and peft. LLaMA-Factory also brings torchvision and
torchaudio: where pip finds no builds of them without CUDA, take torchvision away again and
torchaudio's lib/_torchaudio.abi3.so, which only images and sound need. Left out, TRL runs in this
environment and the other two do not run.

All get the same token ids and labels, the same number of examples in a step in the same order
(training_order.py; grouped by length and packed ones are in another order, and are not compared),
the same first adapter, settings and dtype; one after the other, in a process each, in an order that
rotates from repeat to repeat. One clock measures all of them (training_task.py): real tokens, those
of no padding, of the steps after the warming ones, by the seconds that these took. Start-up and
warming are told apart.

On a CPU: the quickstart's model in float32, the notebook's settings, 4 examples a step. On CUDA:
Mistral-7B's shape with random weights in bfloat16, 64 and 4 examples a step, and the share of the
matmul peak that each process measures first, at 4 operations for each parameter and token.
Writes benchmarks/training-<device>.json; exits with 1 if losses do not agree or
a trainer fails in any way but for want of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from measured_process import measure
from training_results import RIVALS_AT_HAND_SETTINGS, RIVALS_AT_NOTEBOOK_SETTINGS, summary, table
from training_settings import ALL_LINEAR, Setting, in_folder, quickstart_task, shape_task
from training_task import STARTED, Task

HERE = Path(__file__).resolve().parent
NOTEBOOK_BATCH, LARGE_BATCH = 4, 64
LEAST_STEPS = 21  # whose warm-up, a twentieth, is two steps
OURS = "proofbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A trainer with options, for one setting.

    ``group`` says what its speed is compared as; ``ordered`` whether its losses must be proofbox's.
    """

    name: str
    setting: str
    python: str
    script: str
    options: tuple[str, ...] = ()
    ordered: bool = True
    group: str = ""


def cpu_ways(options: argparse.Namespace, packed: int) -> list[Way]:
    """Every trainer at the notebook's settings, and TRL as one tunes it by hand."""

    def way(name: str, tool: str, *given: str, ordered: bool = True, group: str) -> Way:
        return Way(
            name=name,
            setting="notebook",
            python=pythons[tool],
            script=f"train_with_{tool}.py",
            options=given,
            ordered=ordered,
            group=group,
        )

    pythons = {
        "proofbox": sys.executable,
        "trl": options.trl_python or sys.executable,
        "axolotl": options.axolotl_python,
        "llamafactory": options.llamafactory_python,
    }
    notebook, by_hand = RIVALS_AT_NOTEBOOK_SETTINGS, RIVALS_AT_HAND_SETTINGS
    checkpointing, grouped, bfd = "--checkpointing", "--grouped", ("--packed", str(packed))
    one = ("--micro", "1", "--accumulate", "1")
    ways = [
        way(OURS, "proofbox", group=OURS),
        way("TRL, its defaults", "trl", checkpointing, group=notebook),
        way("TRL, grouped", "trl", checkpointing, grouped, ordered=False, group=notebook),
        way("TRL, bfd", "trl", checkpointing, *bfd, *one, ordered=False, group=notebook),
        way("TRL by hand", "trl", group=by_hand),
        way("TRL by hand, grouped", "trl", grouped, ordered=False, group=by_hand),
        way("TRL by hand, bfd", "trl", *bfd, *one, ordered=False, group=by_hand),
    ]
    if options.axolotl_python:
        ways += [way("axolotl", "axolotl", checkpointing, group=notebook)]
        ways += [way("axolotl by hand", "axolotl", group="")]
    if options.llamafactory_python:
        ways += [way("LLaMA-Factory", "llamafactory", checkpointing, group=notebook)]
        ways += [way("LLaMA-Factory by hand", "llamafactory", group="")]
    return ways


def gpu_ways(options: argparse.Namespace) -> list[Way]:
    """Proofbox at three settings, and TRL beside it; the most important first."""
    trl = options.trl_python or sys.executable

    def ours(setting: str) -> Way:
        script = "train_with_proofbox.py"
        return Way(name=OURS, setting=setting, python=sys.executable, script=script, group=OURS)

    def theirs(setting: str, name: str, *given: str, ordered: bool = False) -> Way:
        return Way(
            name=f"TRL, {name}",
            setting=setting,
            python=trl,
            script="train_with_trl.py",
            options=given,
            ordered=ordered,
            group=RIVALS_AT_NOTEBOOK_SETTINGS,
        )

    large, small, linear = f"{LARGE_BATCH}, q and v", "4, q and v", f"{LARGE_BATCH}, all linear"

    def batches(rows: int) -> tuple[str, ...]:
        return ("--grouped", "--micro", str(rows))

    return [
        ours(large),
        ours(linear),
        ours(small),
        theirs(large, "grouped, 4 batches of 16", *batches(16)),
        theirs(large, "bfd", "--packed", "4096", "--micro", "1", "--accumulate", "3"),
        theirs(small, "its defaults", "--checkpointing", ordered=True),
        theirs(small, "no checkpointing", ordered=True),
        theirs(large, "checkpointing, batches of 32", "--checkpointing", *batches(32)),
        theirs(linear, "grouped, 4 batches of 16", *batches(16)),
    ]


def settings(options: argparse.Namespace) -> list[Setting]:
    """What is trained on this device."""
    warming = options.warming_steps
    if options.device == "cpu":
        return [
            Setting(
                name="notebook",
                batch_size=NOTEBOOK_BATCH,
                steps=options.steps or 100,
                warming_steps=warming,
            )
        ]
    # Steps of 64 examples are 11,000 tokens: few are enough, and the time is short.
    few = options.steps or 24
    large = Setting(
        name=f"{LARGE_BATCH}, q and v",
        batch_size=LARGE_BATCH,
        steps=few,
        warming_steps=warming,
        log_every=warming,
    )
    return [
        large,
        replace(large, name=f"{LARGE_BATCH}, all linear", target_modules=ALL_LINEAR),
        Setting(
            name="4, q and v",
            batch_size=NOTEBOOK_BATCH,
            steps=5 * few,
            warming_steps=warming,
            log_every=warming,
        ),
    ]


def packed_length(task: Task) -> int:
    """Tokens of a packed row that holds as many examples as a step, on average."""
    with Path(task.rows).open(encoding="utf-8") as file:
        lengths = [len(json.loads(line)["input_ids"]) for line in file]
    return max(*lengths, round(task.batch_size * sum(lengths) / len(lengths)))


def run(way: Way, task: Task, folder: Path, threads: int) -> dict[str, Any]:
    """Train once by ``way`` in a process of its own and say what it took."""
    load = os.getloadavg()[0]
    shutil.rmtree(folder, ignore_errors=True)
    given = in_folder(task, folder)
    given.save(folder / "task.json")
    report = folder / "report.json"
    command = [way.python, str(HERE / way.script), str(folder / "task.json"), str(report)]
    try:
        measured = measure(
            [*command, *way.options], environment(folder, threads), folder / "log.txt"
        )
    except SystemExit as error:  # the others are measured all the same
        print(error, flush=True)
        return {"failed": str(error).splitlines()[-1], "broken": True}
    found: dict[str, Any] = json.loads(report.read_text())
    return {**found, "process": asdict(measured), "load_before": round(load, 2)}


def environment(folder: Path, threads: int) -> dict[str, str]:
    """The environment of a trainer: no network, no tracker, its files in ``folder``."""
    (folder / "tmp").mkdir()
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "PROOFBOX_CACHE": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
        "AXOLOTL_DO_NOT_TRACK": "1",
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": str(threads),
        STARTED: str(time.time()),
    }


def rotated(ways: Sequence[Way], by: int) -> list[Way]:
    """The ways in an order that begins with another one each time."""
    start = by % len(ways)
    return [*ways[start:], *ways[:start]]


def train_all(
    ways: Sequence[Way],
    tasks: dict[str, Task],
    options: argparse.Namespace,
    keep: Callable[[dict[str, list[dict[str, Any]]]], None],
) -> dict[str, list[dict[str, Any]]]:
    """Every way as often as asked; nothing new is begun after ``--until`` seconds."""
    began = time.monotonic()
    found: dict[str, list[dict[str, Any]]] = {key_of(way): [] for way in ways}
    for repeat in range(options.repeats):
        for way in rotated(ways, repeat):
            if options.until and time.monotonic() - began > options.until:
                print(f"{key_of(way)}: left out, the time is over", flush=True)
                continue
            folder = options.folder / "work"
            result = run(way, tasks[way.setting], folder, options.threads)
            found[key_of(way)].append(result)
            speed = result.get("failed") or f"{result['tokens_per_second']:,.0f} tokens/s"
            print(f"{repeat + 1}. {key_of(way)}: {speed}", flush=True)
            keep(found)
    return found


def key_of(way: Way) -> str:
    """A way's name in the results."""
    return f"{way.setting} | {way.name}"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=["quickstart", "7b"], help="follows from the device")
    parser.add_argument("--trl-python", help="default: this one")
    parser.add_argument("--axolotl-python")
    parser.add_argument("--llamafactory-python")
    parser.add_argument("--steps", type=int, help="default: 100 on a CPU, 24 (times 5) on CUDA")
    parser.add_argument("--warming-steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", help="parts of names of ways")
    parser.add_argument("--until", type=float, help="seconds after which none is begun")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    if options.axolotl_python and options.steps is not None and options.steps < LEAST_STEPS:
        parser.error(f"axolotl makes a warm-up of one step two: --steps {LEAST_STEPS} or more")
    if options.shape and (options.shape == "7b") != (options.device == "cuda"):
        parser.error("the shape 7b needs --device cuda, and the quickstart's model --device cpu")
    if options.device == "cuda" and options.until is None:
        options.until = 470.0
    return options


def main() -> None:
    """Train by every way, print and store what it took."""
    options = parsed()
    path = options.result or HERE / f"training-{options.device}.json"
    options.folder = Path(tempfile.mkdtemp(prefix="training-benchmark-"))
    try:
        make = quickstart_task if options.device == "cpu" else shape_task
        tasks = {
            setting.name: make(setting, options.folder / f"setting-{number}")
            for number, setting in enumerate(settings(options))
        }
        gpu = options.device == "cuda"
        ways = gpu_ways(options) if gpu else cpu_ways(options, packed_length(tasks["notebook"]))
        ways = [w for w in ways if not options.only or any(o in key_of(w) for o in options.only)]

        def keep(found: dict[str, list[dict[str, Any]]]) -> None:
            shown = summary(found, {key_of(way): way for way in ways}, tasks, options.device)
            path.write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")

        train_all(ways, tasks, options, keep)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    result = json.loads(path.read_text())
    print(table(result))
    for wrong in ("broken", "disagreeing"):
        if result[wrong]:
            raise SystemExit(f"{wrong}: {', '.join(result[wrong])}")


if __name__ == "__main__":
    main()
