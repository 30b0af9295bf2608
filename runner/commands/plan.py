"""``proofbox plan``: what would be run, resolved and counted, without training."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from runner.benchmarks.named_benchmark import NamedBenchmark
from runner.cache import cache_folder
from runner.commands.self_test import exit_code, show, test_training
from runner.data.preparation import PreparedData
from runner.errors import ExitCode
from runner.forecast import Forecast, forecast_run
from runner.memory_forecast import MemoryForecast
from runner.plan import Plan, lock_of, make_plan
from runner.progress import Progress
from runner.quantizing.quantized_base import (
    cached_quantized_plan,
    needs_quantizing,
    quantized_plan,
)
from runner.recipe_reading.recipe_file import find_recipe
from runner.run_folder import held
from runner.training.trackers import check_trackers

LONGEST_LABEL = 80  # characters of file names before they are only counted


def plan(
    recipe: str, *, runs: Path, device: str | None, format: str, check: bool = False
) -> ExitCode:
    """Resolve, prepare the data, write the lock of a new run, and print the forecast.

    ``check``: also test that training does as it says (`run --self-test`).
    """
    from runner import stages
    from runner.base_model.loaded_model import check_base, quiet_libraries
    from runner.stages import finished_stages

    quiet_libraries()
    resolved = make_plan(find_recipe(recipe), runs=runs, device=device)
    progress = Progress()
    check_base(resolved.recipe, resolved.model, resolved.device)
    code_runs_in = stages.check_code_execution(resolved)
    check_trackers(resolved.recipe.training.trackers)
    with held(resolved.folder):
        # A folder with results keeps the lock that they were made under.
        fresh = not resolved.folder.training.is_file() and not resolved.folder.evaluation.is_dir()
        prepare = stages.prepare if fresh else stages.prepared
        data = prepare(resolved, progress)
        quantized = cached_quantized_plan(resolved, data, progress)
        finished = finished_stages(quantized or resolved, data)
    outlooks = gate_outlooks(resolved, data)
    forecast = forecast_run(
        quantized or resolved,
        data,
        finished_stages=finished,
        gates=tuple(sentence for sentence, _ in outlooks),
        hopeless_gates=tuple(sentence for sentence, enough in outlooks if not enough),
    )
    tested = None
    if check:
        tested = test_training(quantized_plan(resolved, data, progress), data, progress)
    if format == "json":
        tests = {} if tested is None else {"self_test": asdict(tested)}
        text = json.dumps({**lock_of(resolved), "forecast": asdict(forecast), **tests}, indent=1)
    else:
        text = plan_text(resolved, data, forecast)
        if needs_quantizing(resolved.recipe.quantization, resolved.model):
            text += f"\n{_quantizing_line(resolved, cached=quantized is not None)}"
        text += f"\n  code         answers' code runs in {code_runs_in}" if code_runs_in else ""
    print(text)  # noqa: T201 - the command's output
    if tested is None:
        return ExitCode.PASS
    if format == "text":
        show(tested)
    return exit_code(tested)


def gate_outlooks(resolved: Plan, data: PreparedData) -> list[tuple[str, bool]]:
    """What each gate can show with the examples there are, and whether they are enough for it.

    A gate on a task of lm-eval is left out: its examples are known only when it is asked.
    """
    from evalsuite.catalogue import on_all_rows
    from evalsuite.outlook import can_pass
    from runner.stages import gates_of

    examples = _examples_of_groups(resolved, data)
    found = []
    for gate in gates_of(resolved.recipe.gates):
        group = on_all_rows(gate.metric).rpartition(".")[0]
        if group in examples:
            outlook = can_pass(gate, examples[group])
            found.append((f"{gate.metric} {gate.claim}: {outlook.sentence}", outlook.enough))
    return found


def _examples_of_groups(resolved: Plan, data: PreparedData) -> dict[str, int]:
    """How many examples each partition, set, task and benchmark has."""
    examples = {name: data.part(name).rows for name in data.memberships}
    for task in resolved.recipe.evaluation.generation:
        examples[task.name] = min(examples[task.data], task.limit or examples[task.data])
    for found in resolved.benchmarks:
        if found.block.kind == "multiple_choice":
            examples[found.name] = _questions(found, data)
    return examples


def _questions(benchmark: NamedBenchmark, data: PreparedData) -> int:
    """Questions of a multiple choice benchmark, of which each row is one choice."""
    from evalsuite.examples import read_examples
    from evalsuite.multiple_choice import read_items
    from runner.benchmarks.benchmark_data import choices_file

    file = choices_file(cache_folder(), benchmark, data.sets[benchmark.name])
    return len(read_items(read_examples(data.path(benchmark.name)), file)[0])


def plan_text(resolved: Plan, data: PreparedData, forecast: Forecast) -> str:
    """The plan for a terminal."""
    recipe, model = resolved.recipe, resolved.model
    lines = [
        f"{recipe.name}, run {resolved.run_id}",
        f"  run folder   {resolved.folder.path}",
        f"  base model   {model.name} ({model.architecture}, {model.parameters / 1e6:,.1f} M "
        f"parameters, {_identity(model.revision, model.digest)})",
        f"  data         {_source_label(resolved)} ({_identity(None, resolved.source.digest)})",
    ]
    lines.append(f"  format       {data.format}{', found by its columns' * data.format_detected}")
    for name, part in data.partitions.items():
        lines.append(
            f"    {name:<10} {part.rows:>9,} examples {part.tokens:>12,} tokens, "
            f"{part.supervised_tokens:,} supervised, longest {part.longest:,}"
        )
    lines += [
        f"  left out     {data.dropped:,} dropped, {data.truncated:,} cut, "
        f"{data.leaks.dropped:,} for leaks",
        f"  training     {forecast.steps:,} steps of {recipe.training.batch_size} examples, "
        f"{forecast.epochs:.2f} passes over the data, {forecast.train_tokens:,} tokens",
        f"  adapter      {forecast.adapter_parameters:,} parameters",
        f"  evaluation   {forecast.evaluated_tokens:,} tokens scored, at most "
        f"{forecast.generated_tokens_at_most:,} generated",
        f"  device       {resolved.device}, {resolved.threads} threads",
        *_memory_lines(forecast.memory),
        f"  estimate     {_minutes(forecast.seconds)}",
        f"  done before  {', '.join(forecast.finished_stages) or 'nothing'}",
    ]
    likely = [sentence for sentence in forecast.gates if sentence not in forecast.hopeless_gates]
    lines += ["  gates", *(f"    {sentence}" for sentence in likely)] if likely else []
    if forecast.hopeless_gates:
        lines.append("  too few examples for these gates:")
        lines += [f"    {sentence}" for sentence in forecast.hopeless_gates]
    return "\n".join(lines)


def _quantizing_line(resolved: Plan, *, cached: bool) -> str:
    """What becomes of a full-precision base, and whether that is done already."""
    block = resolved.recipe.quantization
    rows = block.calibration.examples
    done = "it is in the cache" if cached else "it is not in the cache: the run makes it first"
    return (
        f"  quantizing   the base to {block.bits} bits with GPTQ, groups of {block.group_size}, "
        f"calibrated with up to {rows:,} rows of train; {done}"
    )


def _memory_lines(memory: MemoryForecast) -> list[str]:
    """What training takes at its peak; and where it does not fit, what to lower."""
    parts = {
        "program": memory.program,
        "weights": memory.weights,
        "adapter and optimizer": memory.adapter + memory.optimizer,
        f"computing {memory.tokens:,} tokens at once": memory.computing,
    }
    if memory.validating > memory.computing:
        parts.popitem()
        parts["validation"] = memory.validating
    made_of = ", ".join(f"{_gigabytes(size)} {name}" for name, size in parts.items())
    again = f", {memory.recomputed_layers} layers twice" if memory.recomputed_layers else ""
    about = "very roughly" if memory.rough else "about"
    peak = f"{about} {_gigabytes(memory.peak)} GB in training"
    lines = [f"  memory       {peak}: {made_of}{again}"]
    if memory.advice:
        lines.append(f"    more than the {_gigabytes(memory.free)} GB that are free. Lower one of:")
        lines += [f"      {sentence}" for sentence in memory.advice]
    return lines


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f}" if size < 1e10 else f"{size / 1e9:,.0f}"  # noqa: PLR2004 - three digits say enough


def _source_label(resolved: Plan) -> str:
    source = resolved.source
    if len(source.name) <= LONGEST_LABEL:
        return source.name
    parts = [f"{len(source.files):,} files"] if source.files else []
    return ", ".join([*parts, *source.hubs])


def _identity(revision: str | None, digest: str) -> str:
    return f"commit {revision[:12]}" if revision else f"digest {digest[:12]}"


def _minutes(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004 - below a minute and a half, seconds read better
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
