"""What the training benchmark's runs come to: medians, agreement of losses, times faster."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any, Protocol

from training_task import SHAPE_7B, Task

RIVALS_AT_NOTEBOOK_SETTINGS = "at the notebook's settings"
RIVALS_AT_HAND_SETTINGS = "TRL tuned by hand"
OURS = "proofbox"
LOSSES_AGREE = {"cpu": 1e-3, "cuda": 2e-2}  # nats; float32, and bfloat16 with other kernels
FINAL_SHARE = 0.1  # of the logged losses, the last ones, whose mean is the final loss
PARAMETERS_7B = 7_241_732_096
# Least tokens/s on the H200, and least times the best rival (issue 5).
TARGETS = {"64, q and v": 19_000, "64, all linear": 17_000, "4, q and v": 5_700}
TIMES = {
    RIVALS_AT_NOTEBOOK_SETTINGS: {"cpu": 2.0, "cuda": 3.5},
    RIVALS_AT_HAND_SETTINGS: {"cpu": 1.2},
}
Runs = Sequence[Mapping[str, Any]]


class Way(Protocol):
    """What is told of a way to train."""

    @property
    def setting(self) -> str:
        """The setting's name."""

    @property
    def ordered(self) -> bool:
        """Whether its losses must be proofbox's."""

    @property
    def group(self) -> str:
        """What its speed is compared as."""


def summary(
    found: Mapping[str, Runs], ways: Mapping[str, Way], tasks: Mapping[str, Task], device: str
) -> dict[str, Any]:
    """Everything that was found, and what follows from it."""
    done = {name: _median_run(runs) for name, runs in found.items() if runs}
    for name, way in ways.items():
        reference = _of(done, ways, way.setting, OURS)
        if name in done and way.ordered and reference and "failed" not in done[name]:
            done[name]["largest_loss_difference"] = _difference(done[name], reference[0])
    return {
        "device": device_name(device),
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "settings": {name: _told(task) for name, task in tasks.items()},
        "ways": done,
        "comparisons": _comparisons(done, ways, tasks, device),
        "broken": [name for name, runs in found.items() if any(run.get("broken") for run in runs)],
        "disagreeing": [
            name
            for name, run in done.items()
            if run.get("largest_loss_difference", 0.0) > LOSSES_AGREE[device]
        ],
    }


def device_name(device: str) -> str:
    """The processor's or the GPU's own name."""
    if device == "cpu":
        return platform.processor() or "CPU"
    import torch

    return torch.cuda.get_device_name()


def _told(task: Task) -> dict[str, Any]:
    told = ("steps", "warming_steps", "batch_size", "rank", "target_modules", "dtype")
    return {name: getattr(task, name) for name in told}


def _median_run(runs: Runs) -> dict[str, Any]:
    whole = [run for run in runs if "failed" not in run]
    if not whole:
        return {"failed": runs[0]["failed"]}
    figures = (
        "tokens_per_second", "seconds", "seconds_to_first_step", "seconds_of_warming_steps",
        "peak_memory",
    )  # fmt: skip
    losses = whole[0]["losses"]
    last = losses[-max(1, round(FINAL_SHARE * len(losses))) :]
    told = {
        **{name: median(run[name] for run in whole) for name in figures},
        "runs_tokens_per_second": [round(run["tokens_per_second"]) for run in whole],
        "load_before": [run["load_before"] for run in whole],
        "torch": whole[0]["torch"],
        "steps": whole[0]["steps"],
        "tokens": whole[0]["tokens"],
        "final_loss": mean(loss for _, loss in last),
        "losses": losses,
        "decisions": whole[0].get("decisions"),
    }
    if whole[0]["memory_before_steps"] is not None:
        told["memory_of_steps"] = median(
            run["peak_memory"] - run["memory_before_steps"] for run in whole
        )
    if whole[0]["matmul_peak"]:
        told["share_of_peak"] = median(
            4 * PARAMETERS_7B * run["tokens_per_second"] / run["matmul_peak"] for run in whole
        )
        told["matmul_peak_tflops"] = median(run["matmul_peak"] for run in whole) / 1e12
    return told


def _difference(run: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Largest difference of the losses of a step, in nats."""
    theirs: dict[int, float] = dict(reference["losses"])
    ours: dict[int, float] = dict(run["losses"])
    if ours.keys() != theirs.keys():
        return float("inf")
    return max(abs(ours[step] - theirs[step]) for step in ours)


def _of(
    done: Mapping[str, dict[str, Any]], ways: Mapping[str, Way], setting: str, group: str
) -> list[dict[str, Any]]:
    return [
        run
        for name, run in done.items()
        if ways[name].setting == setting and ways[name].group == group and "failed" not in run
    ]


def _comparisons(
    done: Mapping[str, dict[str, Any]],
    ways: Mapping[str, Way],
    tasks: Mapping[str, Task],
    device: str,
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for setting, task in tasks.items():
        ours = _of(done, ways, setting, OURS)
        if not ours:
            continue
        speed = ours[0]["tokens_per_second"]
        if task.model == SHAPE_7B:
            found.append(_compared(setting, "tokens/s", speed, TARGETS.get(setting)))
        for group, least in TIMES.items():
            rivals = [run["tokens_per_second"] for run in _of(done, ways, setting, group)]
            if rivals:
                text = f"times the best of those {group}"
                found.append(_compared(setting, text, speed / max(rivals), least.get(device)))
    return found


def _compared(setting: str, what: str, value: float, least: float | None) -> dict[str, Any]:
    met = None if least is None else value >= least
    return {"setting": setting, "what": what, "value": value, "wanted": least, "met": met}


def table(result: Mapping[str, Any]) -> str:
    """The summary as a Markdown table, and the comparisons."""
    lines = [
        "| | real tokens/s | of peak | to the first step, s | warming, s | peak memory, MB "
        "| of that the steps, MB | final loss | largest difference |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [_line(name, run) for name, run in result["ways"].items()]
    lines += ["", *map(_sentence, result["comparisons"])]
    return "\n".join(lines)


def _line(name: str, run: Mapping[str, Any]) -> str:
    if "failed" in run:
        return f"| {name} | {run['failed']} | | | | | | | |"
    cells = [
        f"{run['tokens_per_second']:,.0f}",
        f"{run['share_of_peak']:.0%}" if "share_of_peak" in run else "",
        f"{run['seconds_to_first_step']:.1f}",
        f"{run['seconds_of_warming_steps']:.1f}",
        f"{run['peak_memory'] / 1e6:,.0f}",
        f"{run['memory_of_steps'] / 1e6:,.0f}" if "memory_of_steps" in run else "",
        f"{run['final_loss']:.4f}",
        f"{run['largest_loss_difference']:.1e}"
        if "largest_loss_difference" in run
        else "other order",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _sentence(compared: Mapping[str, Any]) -> str:
    wanted = "" if compared["wanted"] is None else f" (wanted: {compared['wanted']:,})"
    return f"{compared['setting']}: {compared['value']:,.2f} {compared['what']}{wanted}"
