"""The whole path of a recipe. Read this first: each line is a stage, and a file of that name."""

from __future__ import annotations

from pathlib import Path

from runner import stages
from runner.plan import make_plan, plan_for_target
from runner.progress import Progress
from runner.run_folder import held
from runner.stages import Outcome
from runner.target import find_target
from runner.target_folder import start_target, take_in_target
from runner.training.devices import ONE_DEVICE, Devices


def run_recipe(
    recipe_file: Path,
    *,
    runs: Path,
    device: str | None,
    restart: bool,
    progress: Progress,
    previous: Path | None = None,
    devices: Devices = ONE_DEVICE,
) -> Outcome:
    """Take a recipe from its text to a verdict and, where every gate holds, a release.

    A stage whose record is in the run folder, with the same inputs, is not run again. ``previous``
    is the release that gates compare with, where it is not the recipe's last one. ``devices`` share
    the training.
    """
    plan = make_plan(recipe_file, runs=runs, device=device)
    with held(plan.folder):
        stages.start(plan, restart=restart, progress=progress, previous=previous, devices=devices)
        data = stages.prepare(plan, progress)
        plan = stages.quantize(plan, data, progress)
        stages.evaluate(plan, data, "base", progress)
        adapter = stages.train(plan, data, progress, devices)
        stages.evaluate(plan, data, "adapter", progress)
        evidence = stages.weigh(plan, data, adapter, progress, previous=previous)
        verdict = stages.judge(plan, evidence, progress)
        stages.report(plan)
        release = stages.release(plan.folder, verdict)
    return Outcome(folder=plan.folder, verdict=verdict, release=release)


def judge_target(
    target: str,
    recipe_file: Path,
    *,
    runs: Path,
    device: str | None,
    progress: Progress,
    other_base: bool = False,
) -> Outcome:
    """Judge an adapter or a model that was trained elsewhere, by a recipe's evaluation and gates.

    The same stages, without training; nothing is released before it is asked for. An adapter that
    is bound to other base weights than the recipe's is refused unless ``other_base`` is given.
    """
    found = find_target(target)
    plan = plan_for_target(make_plan(recipe_file, runs=runs, device=device), found)
    with held(plan.folder):
        start_target(plan, progress)
        data = stages.prepare(plan, progress)
        plan = stages.quantize(plan, data, progress)
        judged = take_in_target(plan, data, other_base=other_base)
        stages.evaluate(plan, data, "base", progress)
        stages.evaluate(plan, data, "adapter", progress)
        evidence = stages.weigh(plan, data, judged, progress)
        verdict = stages.judge(plan, evidence, progress)
        stages.report(plan)
    return Outcome(folder=plan.folder, verdict=verdict, release=None)
