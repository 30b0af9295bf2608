"""What was measured, as frozen records that are stored as JSON in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalsuite.catalogue import HUB, is_clean, on_all_rows

Subject = Literal["base", "adapter"]
# What an adapter is compared with.
Reference = Literal["base", "release"]
# Whose figures evidence holds: those of the last released adapter only where a gate asks for it.
Measured = Literal["base", "adapter", "release"]
SliceKind = Literal["length", "column"]
Method = Literal["clustered-ratio", "log-ratio", "item-mean", "binary-items", "bootstrap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One metric of one subject, with a two-sided 95% interval.

    ``metric`` is the full name a gate uses: ``test.loss``, ``test-completions.rougeL``.
    ``clusters`` counts the groups of dependent examples, None where each is independent.
    """

    metric: str
    subject: Measured
    value: float
    standard_error: float
    low: float
    high: float
    degrees_of_freedom: float
    examples: int
    unit: str
    higher_is_better: bool
    method: Method
    clusters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Adapter minus base of one metric on the same examples, with a two-sided 95% interval.

    Or adapter minus the last released one: ``against`` says which.

    ``gained`` and ``lost`` count the items that only the adapter (only the base) got right; they
    are given for binary items alone, and let a gate use Tango's score interval at any margin.
    """

    metric: str
    difference: float
    standard_error: float
    low: float
    high: float
    degrees_of_freedom: float
    examples: int
    method: Method
    p_value: float | None = None
    gained: int | None = None
    lost: int | None = None
    against: Reference = "base"
    clusters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What two results must have in common before they may be compared."""

    data_digest: str
    template_digest: str
    examples_digest: str
    decoding_digest: str
    code_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakedExamples:
    """How many of the examples of a partition or task leak.

    A leaked example is one that a training row equals, or is near to.
    """

    group: str
    examples: int
    leaked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceValue:
    """A loss in nats per token with its two-sided 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceLoss:
    """The loss on one slice of a partition: of base and adapter, and adapter minus base.

    ``name`` is a range of tokens such as ``64-127``, or a value of the column.
    """

    partition: str
    kind: SliceKind
    name: str
    examples: int
    tokens: int
    base: SliceValue | None
    adapter: SliceValue | None
    difference: SliceValue | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentFloor:
    """How far a metric moves by itself: the same model evaluated twice, in other batches.

    ``floor`` is the most by which the whole figure could have moved, had all examples' differences
    one direction; ``largest`` the largest difference of a single example; ``differing`` how many
    answers came out as other texts, None for losses.
    """

    metric: str
    floor: float
    largest: float
    examples: int
    differing: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A partition, set or task that cannot be compared, and the first thing that differs."""

    group: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRelease:
    """The adapter of this recipe that was released last, as gates ``against: release`` need it."""

    run_id: str
    adapter_digest: str
    base_digest: str
    evidence_digest: str
    refused: tuple[Refusal, ...] = ()

    def refusal(self, metric: str) -> Refusal | None:
        """Why the group of ``metric`` cannot be compared with the release; None where it can."""
        group = on_all_rows(metric).rpartition(".")[0]
        return next((found for found in self.refused if found.group == group), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a gate may judge: ``evidence.json`` of a run folder.

    ``test.loss`` is measured on all rows, ``test.clean.loss`` on those that do not leak. It is
    stored only where some rows leak and some do not: where none does, the two are the same; where
    all do, there is nothing to measure. ``slices`` are the losses by parts of each partition, which
    no gate judges. ``leaked`` has an entry for each partition and task; it is empty where leaks
    were not looked for. ``instrument`` is empty where nothing was evaluated
    twice; ``release`` is None where no gate compares with one, or there is none.
    """

    measurements: tuple[Measurement, ...]
    differences: tuple[PairedDifference, ...]
    leaked: tuple[LeakedExamples, ...]
    identity: Identity
    base_digest: str
    adapter_digest: str | None
    slices: tuple[SliceLoss, ...] = ()
    instrument: tuple[InstrumentFloor, ...] = ()
    release: PreviousRelease | None = None

    def measurement(self, metric: str, subject: Measured) -> Measurement | None:
        """The measurement of ``metric`` for ``subject``, or None where it is missing."""
        name = self._stored_name(metric)
        found = (m for m in self.measurements if m.metric == name and m.subject == subject)
        return next(found, None)

    def difference(self, metric: str, against: Reference = "base") -> PairedDifference | None:
        """The paired difference of ``metric``, or None where it is missing."""
        name = self._stored_name(metric)
        found = (d for d in self.differences if d.metric == name and d.against == against)
        return next(found, None)

    def floor(self, metric: str) -> InstrumentFloor | None:
        """What the instrument itself does to ``metric``, or None where it was not measured."""
        name = on_all_rows(metric)
        return next((found for found in self.instrument if found.metric == name), None)

    def leaks_of(self, metric: str) -> LeakedExamples | None:
        """Leaked examples of the partition or task of ``metric``; None where it is not known."""
        group = on_all_rows(metric).rpartition(".")[0]
        return next((found for found in self.leaked if found.group == group), None)

    def _stored_name(self, metric: str) -> str:
        """Where no row leaks, the clean rows are all rows."""
        found = self.leaks_of(metric) if is_clean(metric) else None
        return on_all_rows(metric) if found is not None and found.leaked == 0 else metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How answers are generated. Greedy unless ``do_sample``."""

    max_new_tokens: int
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0


Preset = Literal["last_number", "last_line", "last_boxed", "code_block", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """Which part of a text is scored.

    First ``after`` cuts off all that comes before it and the text itself; then a ``preset`` or a
    regular expression finds the part. ``group`` is the expression's, None for its first group, or
    for the whole match where it has none; ``take`` says which of several finds counts.
    """

    preset: Preset | None = None
    regex: str | None = None
    group: int | None = None
    take: Literal["first", "last"] = "first"
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A metric with its options.

    ``name`` is one of the catalogue, of an entry point, or begins with ``hub:``; or it is the class
    in ``file``. ``options`` are its constructor's arguments; ``renamed`` stands for its figure's
    name, or before the names of several.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    renamed: str | None = None
    file: Path | None = None

    @property
    def label(self) -> str:
        """What sets this metric apart from the others of its task.

        Of one of the evaluate library it is its figure: its name may be a path of this machine.
        """
        own = str(self.options.get("figure")) if self.name.startswith(HUB) else self.name
        return self.renamed or own


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationTask:
    """One generation benchmark: answers for the examples of a partition, scored by metrics.

    ``metrics`` may be names alone where the metric has no options. ``extract`` says which part of
    an answer is scored, and ``extract_reference`` of a reference; None for all of it. ``stop`` are
    texts that end an answer and are no part of it. ``benchmark`` is the digest of a benchmark's
    text and rows. ``stop_token_ids`` and ``answer_marker`` are given where its chat template is
    another than the evaluation's. ``leaks_compared``: its rows were compared with train's.
    """

    name: str
    data: str
    decoding: Decoding
    metrics: tuple[str | MetricSpec, ...]
    limit: int | None = None
    extract: Extraction | None = None
    extract_reference: Extraction | None = None
    stop: tuple[str, ...] = ()
    answers_per_prompt: int = 1
    benchmark: str = ""
    stop_token_ids: tuple[int, ...] | None = None
    answer_marker: str | None = None
    leaks_compared: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceTask:
    """A multiple choice benchmark: every example of ``data`` is one choice.

    ``choices`` is the file that says whose choice each is. ``benchmark`` is the digest of its text
    and rows.
    """

    name: str
    data: str
    choices: Path
    benchmark: str
    leaks_compared: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEvalTasks:
    """Tasks of lm-evaluation-harness, with the arguments of its ``simple_evaluate``.

    ``include_path`` is a folder of further task files. ``chat_template`` is the Jinja source that
    prompts are rendered by where ``apply_chat_template`` is set; ``thinking`` is given to it.
    """

    tasks: tuple[str, ...]
    include_path: Path | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system: str | None = None
    batch_size: int = 8
    chat_template: str = ""
    thinking: bool | None = None
    leaks_compared: bool = True


EngineName = Literal["transformers", "vllm", "openai"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """A server with OpenAI's completions interface, and what it calls the models.

    ``api_key_env`` names the environment variable that holds the key; the key itself is nowhere
    stored. ``timeout`` is in seconds, of one request. ``extensions`` says whether the server also
    takes what vLLM adds to the interface.
    """

    url: str
    base_model: str | None
    adapter_model: str | None
    api_key_env: str | None = None
    prompts: Literal["tokens", "text"] = "tokens"
    extensions: Literal["none", "vllm"] = "none"
    timeout: float = 300.0
    retries: int = 4
    concurrency: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What generates answers; ``server`` is that of the engine openai."""

    name: EngineName = "transformers"
    server: ServerSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeExecution:
    """Where programs that a model wrote are run, and what each of them may use.

    ``seconds`` of CPU time. ``memory_mb`` of address space for each process. ``processes``: new
    processes and threads. ``file_mb``: the largest file, and the most that is printed. ``disk_mb``:
    all files together. ``image``: of a container; None for the official one of this Python.
    ``tests``: in the answer's own process, or in another sandbox that plain values alone reach.
    """

    backend: str
    tests: Literal["beside", "apart"] = "beside"
    seconds: int = 3
    memory_mb: int = 512
    processes: int = 0
    file_mb: int = 1
    disk_mb: int = 8
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """What is evaluated: partitions for held-out loss, generation tasks, sample prompts.

    ``loss`` names partitions and sets of rows; of those in ``divergence`` the Kullback-Leibler
    divergence of the adapter from its base is measured too.
    ``samples`` are rendered generation prompts as ``(text shown, prompt token ids)``.
    ``answer_marker`` is the text after which a generated answer begins, where the chat template has
    the model write something before it. ``code_execution`` is None where no metric runs code.
    ``generation_tokens`` bounds a batch of the engine transformers; None: as memory allows.
    ``template_digests`` are those of partitions and sets. Of each, ``instrument_examples`` are
    evaluated twice; 0 for none.
    """

    loss: tuple[str, ...]
    generation: tuple[GenerationTask, ...]
    samples: tuple[tuple[str, tuple[int, ...]], ...]
    sample_decoding: Decoding
    stop_token_ids: tuple[int, ...]
    pad_token_id: int
    seed: int
    batch_tokens: int
    answer_marker: str = ""
    divergence: tuple[str, ...] = ()
    engine: EngineSpec = EngineSpec()
    generation_tokens: int | None = None
    code_execution: CodeExecution | None = None
    choices: tuple[ChoiceTask, ...] = ()
    lm_eval: LmEvalTasks | None = None
    template_digests: Mapping[str, str] = field(default_factory=dict)
    instrument_examples: int = 0


GateVerdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]
Claim = Literal["superior", "non_inferior", "floor", "ceiling"]
FirstRelease = Literal["inconclusive", "allow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A claim about a metric that must hold before release.

    ``margin`` is in the metric's own unit and never negative; ``at`` is the number of a floor or a
    ceiling. ``confidence`` is one-sided. ``against`` is what the adapter is compared with;
    ``first_release`` says what holds while there is no release to compare with.
    """

    metric: str
    claim: Claim
    margin: float = 0.0
    at: float | None = None
    confidence: float = 0.95
    against: Reference = "base"
    first_release: FirstRelease = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """How one gate was judged, with all that is needed to draw it.

    ``estimate`` is adapter minus base, or the adapter's own value for a floor or a ceiling, in the
    metric's own unit and sign (``base`` is the last release's value where the gate compares with
    that). ``low`` and ``high`` each miss with probability 1 - confidence;
    ``bound`` is the one that decides, against ``threshold``. ``smallest_detectable`` is how far
    beyond the threshold an effect must lie to pass in 80% of such evaluations.
    """

    gate: Gate
    verdict: GateVerdict
    reason: str
    base: float | None
    adapter: float | None
    estimate: float | None
    bound: float | None
    low: float | None
    high: float | None
    threshold: float | None
    examples: int
    smallest_detectable: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Which time it was that a held-out partition, set or task decided a gate: the first is 1."""

    group: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict of a run: the worst of its gates (``verdict.json``).

    ``looks`` come from the ledger and ``warnings`` from other runs: neither is in the evidence, and
    neither decides.
    """

    verdict: GateVerdict
    reason: str
    gates: tuple[GateResult, ...]
    adapter_digest: str | None
    base_digest: str
    evidence_digest: str
    looks: tuple[Looks, ...] = ()
    warnings: tuple[str, ...] = ()
