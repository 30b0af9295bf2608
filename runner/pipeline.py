"""The whole path of a recipe. Read this first: each line is a stage, and a file of that name."""

from __future__ import annotations

from pathlib import Path

from runner import stages
from runner.plan import make_plan
from runner.progress import Progress
from runner.run_folder import held
from runner.stages import Outcome


def run_recipe(
    recipe_file: Path, *, runs: Path, device: str | None, restart: bool, progress: Progress
) -> Outcome:
    """Take a recipe from its text to a verdict and, where every gate holds, a release.

    A stage whose record is in the run folder, with the same inputs, is not run again.
    """
    plan = make_plan(recipe_file, runs=runs, device=device)
    with held(plan.folder):
        stages.start(plan, restart=restart, progress=progress)
        data = stages.prepare(plan, progress)
        stages.evaluate(plan, data, "base", progress)
        adapter = stages.train(plan, data, progress)
        stages.evaluate(plan, data, "adapter", progress)
        evidence = stages.weigh(plan, data, adapter)
        verdict = stages.judge(plan, evidence)
        stages.report(plan)
        release = stages.release(plan.folder, verdict)
    return Outcome(folder=plan.folder, verdict=verdict, release=release)
