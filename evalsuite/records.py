"""What was measured, as frozen records that are stored as JSON in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalsuite.catalogue import is_clean, on_all_rows

Subject = Literal["base", "adapter"]
Method = Literal["clustered-ratio", "log-ratio", "item-mean", "binary-items", "bootstrap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One metric of one subject, with a two-sided 95% interval.

    ``metric`` is the full name a gate uses: ``test.loss``, ``test-completions.rougeL``.
    """

    metric: str
    subject: Subject
    value: float
    standard_error: float
    low: float
    high: float
    degrees_of_freedom: float
    examples: int
    unit: str
    higher_is_better: bool
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Adapter minus base of one metric on the same examples, with a two-sided 95% interval.

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
class Evidence:
    """Everything a gate may judge: ``evidence.json`` of a run folder.

    ``test.loss`` is measured on all rows, ``test.clean.loss`` on those that do not leak. It is
    stored only where some rows leak and some do not: where none does, the two are the same; where
    all do, there is nothing to measure. ``leaked`` has an entry for each partition and task; it is
    empty where leaks were not looked for.
    """

    measurements: tuple[Measurement, ...]
    differences: tuple[PairedDifference, ...]
    leaked: tuple[LeakedExamples, ...]
    identity: Identity
    base_digest: str
    adapter_digest: str | None

    def measurement(self, metric: str, subject: Subject) -> Measurement | None:
        """The measurement of ``metric`` for ``subject``, or None where it is missing."""
        name = self._stored_name(metric)
        found = (m for m in self.measurements if m.metric == name and m.subject == subject)
        return next(found, None)

    def difference(self, metric: str) -> PairedDifference | None:
        """The paired difference of ``metric``, or None where it is missing."""
        name = self._stored_name(metric)
        return next((d for d in self.differences if d.metric == name), None)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationTask:
    """One generation benchmark: answers for the examples of a partition, scored by metrics."""

    name: str
    data: str
    decoding: Decoding
    metrics: tuple[str, ...]
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """What is evaluated: partitions for held-out loss, generation tasks, sample prompts.

    ``samples`` are rendered generation prompts as ``(text shown, prompt token ids)``.
    ``answer_marker`` is the text after which a generated answer begins, where the chat template has
    the model write something before it.
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


GateVerdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]
Claim = Literal["superior", "non_inferior", "floor", "ceiling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A claim about a metric that must hold before release.

    ``margin`` is in the metric's own unit and never negative; ``at`` is the number of a floor or a
    ceiling. ``confidence`` is one-sided.
    """

    metric: str
    claim: Claim
    margin: float = 0.0
    at: float | None = None
    confidence: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """How one gate was judged, with all that is needed to draw it.

    ``estimate`` is adapter minus base, or the adapter's own value for a floor or a ceiling, in the
    metric's own unit and sign. ``low`` and ``high`` each miss with probability 1 - confidence;
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
class Verdict:
    """The verdict of a run: the worst of its gates (``verdict.json``)."""

    verdict: GateVerdict
    reason: str
    gates: tuple[GateResult, ...]
    adapter_digest: str | None
    base_digest: str
    evidence_digest: str
