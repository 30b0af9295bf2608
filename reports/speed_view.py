"""What the run cost, and how it was trained: wall time by stage, speed, memory."""

from __future__ import annotations

from dataclasses import dataclass

from reports.charts import Curve, bars, curves
from reports.exhibits import Figure, Table, names
from reports.number_text import (
    NOTHING,
    count,
    counted,
    fixed,
    percent,
    plain,
    seconds,
    significant,
    size,
)
from reports.run_records import Hardware, OutsideSubject, Training, TrainingPoint
from reports.stored_run import StoredRun
from reports.visible_text import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedView:
    """The speed section of a report: time of each stage, how it was trained, speed by step."""

    stages: Figure | None
    how: Table | None
    curve: Figure | None


def speed_view(run: StoredRun) -> SpeedView:
    """The speed section from ``training.json`` and ``timings.json``."""
    training = run.training
    return SpeedView(
        stages=_stage_figure(run.timings),
        how=None if training is None else _how_table(training, run.lock.hardware),
        curve=None if training is None else _speed_figure(training),
    )


def _how_table(training: Training, hardware: Hardware) -> Table:
    """Names and values; what was not measured is left out."""
    facts: list[tuple[str, str | None]] = [
        ("Device", _device(training, hardware)),
        ("Speed", f"{count(round(training.tokens_per_second))} real tokens/s"),
        ("Of the device's peak", _share(training.utilization)),
        ("Computed for padding", _share(training.padding)),
        ("Supervised", _share(training.supervised)),
        ("Tokens trained on", count(training.tokens)),
        ("Computed at once", _at_once(training.micro_batch_tokens)),
        ("Peak memory", size(training.peak_memory_bytes)),
        ("Time of the steps", seconds(training.seconds)),
        ("Time in all", _wall(training.wall_seconds)),
        ("Continued after", ", ".join(f"step {step:,}" for step in training.resumed_from) or None),
    ]
    return Table(
        caption="How it was trained",
        columns=names("What", "Measured"),
        rows=tuple((name, value) for name, value in facts if value is not None),
    )


def _device(training: Training, hardware: Hardware) -> str:
    kind = f"{hardware.device}, {training.dtype}" if training.dtype else hardware.device
    return kind if training.devices == 1 else f"{training.devices} x {kind}, {training.strategy}"


def _share(value: float | None) -> str | None:
    return None if value is None else percent(value, 1.0)


def _at_once(tokens: int | None) -> str | None:
    return None if tokens is None else f"at most {counted(tokens, 'token')}"


def _wall(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{seconds(value)}, with validation, checkpoints and steps made again"


def _speed_figure(training: Training) -> Figure | None:
    """Real tokens a second between logged steps; a single point is no curve."""
    if len(training.history) < 2:  # noqa: PLR2004 - a line needs two ends
        return None
    title = f"Training ran at {count(round(training.tokens_per_second))} real tokens/s"
    points = tuple((float(p.step), p.tokens_per_second) for p in training.history)
    return Figure(
        title=title,
        chart=curves(
            [Curve(label="speed", class_="quiet", points=points)],
            key="speed-curve",
            title=title,
            x_name="optimizer step",
            y_name="real tokens/s",
        ),
        table=_speed_table(training.history),
        note="Each point is the mean since the point before it. Validation and checkpoints are not "
        "counted, and neither is padding.",
    )


def _speed_table(history: tuple[TrainingPoint, ...]) -> Table:
    columns: dict[str, list[str | None]] = {
        "#Step": [*(count(p.step) for p in history)],
        "#Real tokens/s": [*(count(round(p.tokens_per_second)) for p in history)],
        "#Of peak": [_share(p.utilization) for p in history],
        "#Padding": [_share(p.padding) for p in history],
        "#Supervised": [_share(p.supervised) for p in history],
        "#Peak memory": [
            None if p.peak_memory_bytes is None else size(p.peak_memory_bytes) for p in history
        ],
    }
    known = {name: cells for name, cells in columns.items() if any(cells)}
    return Table(
        caption="Speed by step",
        columns=names(*known),
        rows=tuple(
            tuple(cell or NOTHING for cell in row) for row in zip(*known.values(), strict=True)
        ),
    )


def training_facts(run: StoredRun) -> tuple[tuple[str, str], ...]:
    """What was trained, and for how long, as (name, value); or what came from elsewhere."""
    training = run.training
    if training is None:
        return outside_facts(run.outside) if run.outside is not None else ()
    share = percent(training.trainable_parameters, training.total_parameters)
    rate = max((point.learning_rate for point in training.history), default=None)
    return (
        (
            "Optimizer steps",
            f"{training.steps:,}, each of {counted(training.examples_per_step, 'example')}",
        ),
        ("Passes over the data", plain(round(training.epochs, 2))),
        ("Highest logged learning rate", significant(rate, 2) if rate is not None else NOTHING),
        (
            "Trainable parameters",
            f"{training.trainable_parameters:,} of {training.total_parameters:,} ({share})",
        ),
        ("Adapted modules", _modules(training.target_modules)),
    )


def outside_facts(outside: OutsideSubject) -> tuple[tuple[str, str], ...]:
    """Where the judged adapter or model comes from, as (name, value)."""
    named = {
        "Revision": outside.revision,
        "Method": outside.method,
        "Base model by its own configuration": outside.base_named,
        **outside.settings,
    }
    return (
        ("Trained", "elsewhere; how, and on which data, is not known here"),
        (f"Judged {outside.kind}", visible(outside.name)),
        ("Parameters", count(outside.parameters)),
        *((name, visible(_setting(value))) for name, value in named.items() if value is not None),
    )


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _modules(modules: tuple[str, ...]) -> str:
    """``q_proj, v_proj (10 modules)``: the last part of each name, once."""
    kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in modules))
    return f"{kinds} ({counted(len(modules), 'module')})"


def _stage_figure(timings: tuple[tuple[str, float], ...]) -> Figure | None:
    if not timings:
        return None
    total = sum(value for _, value in timings)
    stage, longest = max(timings, key=lambda item: item[1])
    share = fixed(100 * longest / total, 0) if total else "0"
    title = f"The stage “{stage}” took {share}% of {seconds(total)}"
    return Figure(
        title=title,
        chart=bars(
            [(name, value, seconds(value)) for name, value in timings], key="stages", title=title
        ),
        table=Table(
            caption="Wall time by stage",
            columns=names("Stage", "#Time", "#Share"),
            rows=tuple((name, seconds(value), percent(value, total)) for name, value in timings),
        ),
        note="The time of writing this report is not counted.",
    )
