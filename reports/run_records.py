"""The JSON records of a run folder, as they are read back: a missing or odd value is an error.

Only what a report shows is declared; other keys of a record are its writer's business.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator


class Stored(BaseModel):
    """A record read from JSON: frozen, strict in its types, without NaN."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class DataFile(Stored):
    """One file of the data, as it was."""

    name: str
    sha256: str
    bytes: int


class LockedData(Stored):
    """The data that the lock pins."""

    digest: str
    files: tuple[DataFile, ...]
    revision: str | None


class LockedModel(Stored):
    """The base model that the lock pins."""

    name: str
    digest: str
    revision: str | None
    parameters: int
    architecture: str


class LockedQuantized(Stored):
    """The quantized base that the run made of ``LockedModel``, and that all figures are about."""

    digest: str
    quantization: dict[str, Any]
    examples: int
    tokens: int
    calibration_digest: str
    versions: dict[str, str]


class Hardware(Stored):
    """The machine, without anything that names it."""

    device: str
    cpu_count: int | None
    threads: int
    platform: str
    python: str


class Lock(Stored):
    """``lock.json``: the recipe with every default, and everything that it resolved to."""

    proofbox: str
    recipe: dict[str, Any]
    recipe_digest: str
    run_id: str
    data: LockedData
    model: LockedModel
    quantized: LockedQuantized | None = None
    versions: dict[str, str]
    hardware: Hardware
    seed: int
    decisions: tuple[str, ...]

    @field_validator("recipe")
    @classmethod
    def _named(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(recipe.get("name"), str):
            raise ValueError("the resolved recipe has no name")
        return recipe


class Lengths(Stored):
    """A histogram (of lengths in tokens, say); there is one more edge than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class PartitionRecord(Stored):
    """Counts of one partition."""

    rows: int
    tokens: int
    supervised_tokens: int
    digest: str
    longest: int
    lengths: Lengths


class RuleRecord(Stored):
    """A rule that every row was held to, and what became of those that broke it.

    ``rule`` is a key of ``dataset.violations``, or ``too_long``; ``policy`` its value there.
    """

    rule: str
    text: str
    policy: str
    rows_checked: int
    violations: int
    dropped: int
    first_rows: tuple[int, ...]

    @property
    def refused(self) -> bool:
        """Whether a run stops because of it."""
        return self.policy == "error" and self.violations > 0


class LeakCountRecord(Stored):
    """Pairs of rows of two partitions that say the same, and how many rows of either they hold."""

    kind: str
    by: str
    first: str
    second: str
    pairs: int
    first_rows: int
    second_rows: int
    policy: str
    at_least: bool

    @property
    def refused(self) -> bool:
        """Whether a run stops because of it."""
        return self.policy == "error" and self.pairs > 0


class LeakRecord(Stored):
    """What was found of rows that occur in more than one partition."""

    counts: tuple[LeakCountRecord, ...]
    compared: dict[str, int]
    dropped: int
    listed: int
    leaked: dict[str, int]
    unsettled: dict[str, int]


class ExampleToken(Stored):
    """One token of a rendered example, and whether the loss counts it."""

    text: str
    supervised: bool
    special: bool = False


class RenderedExample(Stored):
    """The first training row as the model sees it."""

    tokens: tuple[ExampleToken, ...]


class PreparedData(Stored):
    """``data.json``: what became of the source rows.

    ``rows_kept`` broke no rule that leaves rows out; leaks and weights do not count in it.
    ``shares`` counts examples by the share of their tokens that is supervised, in percent.
    """

    partitions: dict[str, PartitionRecord]
    source_rows: int
    rows_kept: int
    format: str
    format_detected: bool
    rules: tuple[RuleRecord, ...]
    leaks: LeakRecord
    shares: Lengths
    notes: tuple[str, ...]
    template_digest: str
    stop_token: str
    stop_token_ids: tuple[int, ...]
    bos_token: str | None
    example: RenderedExample


class TrainingPoint(Stored):
    """The steps since the point before: shares of tokens are None in records of older versions.

    ``utilization`` is None too where the device's peak is not known.
    """

    step: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    padding: float | None = None
    supervised: float | None = None
    peak_memory_bytes: int | None = None
    utilization: float | None = None


class ValidationPoint(Stored):
    """The token-weighted validation loss after a step."""

    step: int
    loss: float


class Training(Stored):
    """``training.json``: how the adapter came about."""

    steps: int
    examples_per_step: int
    epochs: float
    history: tuple[TrainingPoint, ...]
    validation: tuple[ValidationPoint, ...]
    seconds: float
    tokens: int
    tokens_per_second: float
    peak_memory_bytes: int
    trainable_parameters: int
    total_parameters: int
    adapter_digest: str
    target_modules: tuple[str, ...]
    resumed_from: tuple[int, ...]
    decisions: tuple[str, ...]
    micro_batch_tokens: int | None = None
    padding: float | None = None
    supervised: float | None = None
    utilization: float | None = None
    wall_seconds: float | None = None
    dtype: str = ""
    devices: int = 1
    strategy: str = ""


class OutsideSubject(Stored):
    """``subject.json``: an adapter or a model that was trained elsewhere and judged here."""

    kind: Literal["adapter", "model"]
    name: str
    revision: str | None
    digest: str
    base_named: str | None
    method: str | None
    parameters: int
    settings: dict[str, Any]
    notes: tuple[str, ...]


class SampleAnswer(Stored):
    """A prompt of the recipe's ``samples`` with one subject's answer."""

    prompt: str
    prediction: str


class TaskSummary(Stored):
    """What ``summary.json`` of a subject says of one task: the backend that ran answers' code."""

    code_execution: str | None = None


class SubjectSummary(Stored):
    """``summary.json`` of a subject."""

    generation: dict[str, TaskSummary]
