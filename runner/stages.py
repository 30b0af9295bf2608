"""The stages of the pipeline: each takes finished records and leaves one more in the run folder."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.records import CodeExecution, Evidence, Gate, Subject, Verdict
from runner.benchmarks.benchmark_leaks import find_benchmark_leaks, find_lm_eval_leaks
from runner.benchmarks.lm_eval_source import check_lm_eval
from runner.cache import cache_folder, copy_folder
from runner.data.leaks.leak_report import LEAKED_FILE
from runner.data.partition import SPLITS
from runner.data.preparation import PreparedData
from runner.data.prepared_data import LISTINGS, WHOLE
from runner.digests import digest_of_json
from runner.errors import DataError
from runner.fresh_process import FreshProcessError, own_command, own_environment
from runner.judgement import check_ledger, check_previous, compared_release, judged
from runner.plan import Plan, check_writable, judges_whole_model, write_lock
from runner.previous_release import note_release
from runner.progress import Progress
from runner.quantizing.quantized_base import needs_quantizing, recorded_quantized_plan
from runner.quickstart_data import code_execution_block
from runner.recipe import GateBlock, Recipe
from runner.run_folder import RunFolder, remove
from runner.set_leaks import find_set_leaks
from runner.stored_json import read_json, write_json
from runner.subject_evaluation import (
    evaluated_names,
    evaluation_inputs,
    is_sealed_for,
    seal_evaluation,
)
from runner.target import Target
from runner.training.adapter_files import folder_digest
from runner.training.devices import ONE_DEVICE, Devices, check_devices, check_layers
from runner.training.ranks import ALONE, Ranks
from runner.training.trackers import check_trackers, conclude
from runner.training.train_adapter import TrainedAdapter, read_training, train_adapter
from runner.versions import MEASURING, code_digest

# Disk that a run needs: records and report; and for each parameter of the adapter four checkpoints
# (one more than are kept) of its float32 value and Adam's two moments.
RUN_BYTES = 50_000_000
CHECKPOINTS_BYTES = 4 * 12

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to. ``release`` is None where the verdict does not allow one."""

    folder: RunFolder
    verdict: Verdict
    release: Path | None


@contextmanager
def timed(folder: RunFolder, stage: str, *, keep_first: bool = False) -> Iterator[None]:
    """Record the seconds of a stage that finishes; ``keep_first`` where a cache may answer."""
    started = time.perf_counter()
    yield
    folder.note_seconds(stage, time.perf_counter() - started, keep_first=keep_first)


def start(
    plan: Plan,
    *,
    restart: bool,
    progress: Progress,
    previous: Path | None = None,
    devices: Devices = ONE_DEVICE,
) -> None:
    """Refuse what cannot succeed, make the run folder ready, and say what will happen."""
    from runner.base_model.loaded_model import check_base, model_skeleton, quiet_libraries
    from runner.training.lora import count_adapter_parameters
    from runner.training.lora_targets import find_targets

    quiet_libraries()
    check_devices(devices, plan.recipe, plan.device)
    check_base(plan.recipe, plan.model, plan.device)
    skeleton = model_skeleton(plan.recipe, plan.model)
    check_layers(devices, skeleton)
    find_targets(skeleton, plan.recipe.lora, quantized=plan.recipe.quantization.method != "none")
    code_runs_in = check_code_execution(plan)
    check_lm_eval(plan.recipe, plan.base_folder)
    check_trackers(plan.recipe.training.trackers)
    parameters = count_adapter_parameters(skeleton, plan.recipe.lora)
    check_writable(plan.folder.path, needed_bytes=RUN_BYTES + CHECKPOINTS_BYTES * parameters)
    if restart:
        plan.folder.clear()
    plan.folder.sweep()
    progress.log = plan.folder.path / "run.log"
    if recipe_changed(plan):
        if plan.folder.release.is_dir():
            progress.announce("the recipe's evaluation or gates changed: the release is withdrawn")
        plan.folder.withdraw(verdict=True)
    progress.announce(f"{plan.recipe.name}, run {plan.run_id}: {plan.folder.path}")
    progress.announce(
        f"  {plan.model.architecture}, {plan.model.parameters / 1e6:,.1f} M parameters, on "
        f"{plan.device} with {plan.threads} threads; adapter of {parameters:,} parameters"
    )
    if devices.count > 1:
        progress.announce(f"  trained on {devices.text}")
    if code_runs_in is not None:
        progress.announce(f"  answers' code runs in {code_runs_in}")
    check_ledger(plan.recipe_file, plan.folder.path.parent.parent, progress.announce)
    check_previous(plan, previous)


def recipe_changed(plan: Plan) -> bool:
    """Whether the folder holds records of this run under another evaluation, gates or name."""
    if not plan.folder.lock.is_file():
        return False
    lock = read_json(plan.folder.lock)
    recipe = plan.recipe.model_dump(mode="json")
    benchmarks = [benchmark.as_json() for benchmark in plan.benchmarks]
    same = lock["recipe_digest"] == digest_of_json(recipe) and lock["benchmarks"] == benchmarks
    return not same


def prepare(plan: Plan, progress: Progress) -> PreparedData:
    """Prepare the data and record what the run is made of."""
    with timed(plan.folder, "prepare", keep_first=True):
        data = prepared(plan, progress)
    if plan.folder.training.is_file() or plan.folder.checkpoints.is_dir():
        check_partitions(plan.folder, data, sets=False)
    searched = (
        find_benchmark_leaks(data, plan.recipe, plan.benchmarks),
        find_set_leaks(data, plan.recipe),
    )
    found = [leaks for leaks in searched if leaks is not None]
    for leaks in found:
        data = replace(data, leaks=leaks.report(data.leaks))
        progress.announce(leaks.summary())
    write_json(plan.folder.data, data.as_json())
    copy_listings(data, plan.folder.listings)
    for leaks in found:
        leaks.add_to(plan.folder.listings)
    write_lock(
        plan,
        data.memberships,
        decisions=data_decisions(data),
    )
    return data


def quantize(plan: Plan, data: PreparedData, progress: Progress) -> Plan:
    """Quantize a full-precision base where the recipe asks for it; what follows is about that one.

    Gives ``plan`` with the quantized base, which is cached by content.
    """
    if not needs_quantizing(plan.recipe.quantization, plan.model):
        return plan
    with timed(plan.folder, "quantize", keep_first=True):
        return recorded_quantized_plan(plan, data, progress)


def check_partitions(folder: RunFolder, data: PreparedData, *, sets: bool = True) -> None:
    """Membership of every partition is what the lock says: in every process that loads the data.

    ``sets`` are checked too, unless the recipe's evaluation may have been changed since.

    Raises:
        DataError: a partition holds other rows.
    """
    locked = read_json(folder.lock)["partitions"]
    found = data.memberships
    if not sets:
        locked, found = ({n: d for n, d in all_.items() if n in SPLITS} for all_ in (locked, found))
    if found != locked:
        changed = ", ".join(sorted(n for n in {*locked, *found} if locked.get(n) != found.get(n)))
        raise DataError(
            f"the partitions {changed} hold other rows here than lock.json says. "
            "Run the recipe again with --restart."
        )


def prepared(plan: Plan, progress: Progress) -> PreparedData:
    """Partition, render, tokenize and check every row; cached by content."""
    from runner.base_model.loaded_model import load_tokenizer
    from runner.data.preparation import prepare_data

    with progress.bar("preparing data") as advance:
        tokenizer = load_tokenizer(plan.recipe, plan.model)
        data = prepare_data(
            plan.recipe,
            plan.source,
            tokenizer,
            base_folder=plan.base_folder,
            cache_folder=cache_folder(),
            vocabulary=plan.model.vocabulary or None,
            announce=progress.announce,
            on_progress=lambda what, done, total: advance(done, total, what),
        )
        check_trained_tokens(plan.recipe, data, tokenizer)
        data = prepared_sets(plan, data, tokenizer, progress)
    progress.announce(data_summary(data))
    return data


def check_trained_tokens(
    recipe: Recipe, data: PreparedData, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse before anything is loaded to train tokens that no row of train has.

    Raises:
        DataError: it names them.
    """
    from runner.base_model.trained_tokens import token_ids
    from runner.data.preparation import partition_dataset
    from runner.training.token_rows import check_tokens_occur

    texts = recipe.lora.trained_tokens
    if texts:
        ids = dict(zip(texts, token_ids(tokenizer, texts), strict=True))
        check_tokens_occur(partition_dataset(data, "train"), ids)


def prepared_sets(
    plan: Plan, data: PreparedData, tokenizer: PreTrainedTokenizerBase, progress: Progress
) -> PreparedData:
    """``data`` with the sets of rows that are evaluated beside it; cached by content."""
    from runner.benchmarks.benchmark_data import with_benchmarks
    from runner.data.extra_sets import with_sets

    data = with_sets(
        data,
        plan.recipe,
        plan.sets,
        tokenizer,
        base_folder=plan.base_folder,
        cache_folder=cache_folder(),
        vocabulary=plan.model.vocabulary or None,
        announce=progress.announce,
    )
    return with_benchmarks(
        data,
        plan.recipe,
        plan.source,
        plan.benchmarks,
        tokenizer,
        base_folder=plan.base_folder,
        cache_folder=cache_folder(),
        vocabulary=plan.model.vocabulary or None,
        announce=progress.announce,
    )


def data_decisions(data: PreparedData) -> list[str]:
    """What the recipe leaves open about the data, and what its rows and template decided."""
    found = [f"dataset.format: null is {data.format}"] if data.format_detected else []
    thinking = str(data.thinking).lower()
    return [*found, *([] if data.thinking is None else [f"template.thinking: {thinking}"])]


def copy_listings(data: PreparedData, folder: Path) -> None:
    """Keep the lists of problem rows and leaks beside the run: the cache may be emptied."""
    remove(folder)
    folder.mkdir(parents=True)
    for name in LISTINGS:
        shutil.copy2(Path(data.folder) / name, folder / name)


def data_summary(data: PreparedData) -> str:
    """Rows by partition, dropped and cut ones, leaks."""
    rows = ", ".join(f"{part.rows:,} {name}" for name, part in data.partitions.items())
    form = f"{data.format}{', found by its columns' if data.format_detected else ''}"
    lost = f"{data.dropped:,} dropped, {data.truncated:,} cut"
    lines = [f"  data ({form}): {rows} examples; {lost}; every row checked"]
    kept = [o for o in data.rules if o.violations and o.policy == "warn"]
    lines += [f"  warning: {o.violations:,} rows break {o.rule}: {o.text}" for o in kept]
    lines += [
        f"  {'warning: ' if count.policy == 'warn' else ''}{count.pairs:,} {count.kind} pairs by "
        f"{count.by} between {count.first} and {count.second} ({count.policy})"
        for count in data.leaks.counts
        if count.pairs and count.policy != "listed"
    ]
    if data.leaks.dropped:
        lines.append(f"  {data.leaks.dropped:,} rows of train dropped for leaks")
    if data.leaks.unsettled:
        unsettled = sum(data.leaks.unsettled.values())
        lines.append(
            f"  {unsettled:,} rows resemble too many others to be compared with all: they count as "
            "leaks"
        )
    if len(lines) > 1 or data.dropped or data.truncated:
        lines.append("  details: proofbox preview RECIPE --violations")
    for name, extra in data.sets.items():
        lines.append(f"  {name} ({extra.format}): {extra.part(WHOLE).rows:,} examples, held out")
    return "\n".join(lines)


def evaluate(plan: Plan, data: PreparedData, subject: Subject, progress: Progress) -> None:
    """Evaluate the base model, or the adapter as it lies on disk, in a fresh process."""
    folder = plan.folder.evaluation / subject
    if subject == "base" and not plan.recipe.evaluation.base:
        remove(folder)
        plan.folder.remove_partial(subject)
        return
    inputs = inputs_of(plan, data, subject)
    plan.folder.remove_partial(subject, but=plan.folder.partial(subject, inputs))
    if is_sealed_for(folder, inputs):
        progress.announce(f"  evaluation of the {subject}: done before")
        return
    cached = cache_folder() / "evaluations" / inputs
    # What a server runs may change behind its name: its answers are this run's alone.
    shared = subject == "base" and plan.recipe.evaluation.engine != "openai"
    remove(folder)
    if shared and is_sealed_for(cached, inputs):
        copy_folder(cached, folder)
        if is_sealed_for(folder, inputs):
            progress.announce("  evaluation of the base: taken from the cache")
            plan.folder.remove_partial(subject)
            return
    started = time.perf_counter()
    with timed(plan.folder, f"evaluate {subject}"):
        _evaluate_in_fresh_process(plan, subject, inputs)
    progress.announce(f"  evaluated the {subject} in {time.perf_counter() - started:.0f} s")
    plan.folder.remove_partial(subject)
    if shared:
        remove(cached)  # it was damaged, or it is not there
        copy_folder(folder, cached)


def inputs_of(plan: Plan, data: PreparedData, subject: Subject) -> str:
    """Digest of everything that the evaluation of ``subject`` depends on."""
    adapter = judged_digest(plan) if subject == "adapter" else None
    execution = code_execution_of(plan)
    if execution is None:
        return evaluation_inputs(plan, data, adapter, code_execution=None)
    from evalsuite.sandbox import describe

    return evaluation_inputs(plan, data, adapter, code_execution=describe(execution))


def code_execution_of(plan: Plan) -> CodeExecution | None:
    """Where answers' code is run, and what it may use; None where none is."""
    block = code_execution_block(plan.recipe, plan.base_folder)
    return None if block is None else CodeExecution(**block.model_dump())


def check_code_execution(plan: Plan) -> str | None:
    """Try the recipe's backend for code before anything is trained; gives what it is.

    Raises:
        SandboxError: it is missing or does not work here; another one is never taken instead.
    """
    execution = code_execution_of(plan)
    if execution is None:
        return None
    from evalsuite.sandbox import check_backend

    return check_backend(execution)


def judged_digest(plan: Plan) -> str:
    """Digest of what is judged, as it lies on disk."""
    if plan.target is not None and judges_whole_model(plan):
        return plan.target.target.digest
    return folder_digest(plan.folder.adapter)


def _judged_place(plan: Plan) -> Path:
    """Where that lies: the run's own copy of an adapter, or a whole model's own folder."""
    if plan.target is not None and judges_whole_model(plan):
        return plan.target.place
    return plan.folder.adapter


def _evaluate_in_fresh_process(plan: Plan, subject: Subject, inputs: str) -> None:
    """Evaluate into a folder of its own, and give it its name only when it is whole."""
    target = plan.folder.evaluation / subject
    private = target.with_name(f".{subject}.{os.getpid()}")
    remove(private)
    command = own_command(
        "evaluate-subject",
        *_told_of_run(plan),
        *("--subject", subject, "--out", str(private.resolve())),
        *("--partial", str(plan.folder.partial(subject, inputs).resolve())),
        *(() if plan.target is None else ("--target", str(_judged_place(plan).resolve()))),
    )
    finished = subprocess.run(command, check=False, env=own_environment())
    if finished.returncode != 0:
        raise FreshProcessError(
            finished.returncode, what="the evaluation", lower="hardware.batch_tokens"
        )
    seal_evaluation(private, inputs)
    remove(target)
    private.rename(target)


def _told_of_run(plan: Plan) -> tuple[str, ...]:
    """What a command in a fresh process is told, to make this very plan again."""
    runs = str(plan.folder.path.parent.parent.resolve())
    return (
        str(plan.recipe_file.resolve()),
        *("--run-id", plan.run_id, "--device", plan.device, "--runs", runs),
    )


def train(
    plan: Plan, data: PreparedData, progress: Progress, devices: Devices = ONE_DEVICE
) -> TrainedAdapter:
    """Train the adapter on the train partition, or take the finished one."""
    finished = finished_training(plan.folder)
    if finished is not None:
        progress.announce("  training: done before")
        return finished
    if plan.folder.training.is_file():
        progress.announce("  training again: the stored adapter is not the one that was recorded")
    with timed(plan.folder, "train"):
        if devices.count > 1:
            adapter = train_in_ranks(plan, devices, plan.folder)
        else:
            adapter = train_partition(plan, data, progress)
    plan.folder.add_seconds("train", sum(earlier["seconds"] for earlier in adapter.sessions[:-1]))
    return adapter


def train_partition(
    plan: Plan, data: PreparedData, progress: Progress, ranks: Ranks = ALONE
) -> TrainedAdapter:
    """Train on the train partition in this process, which may be one of several ``ranks``."""
    from runner.data.preparation import partition_dataset

    rows, validate = partition_dataset(data, "train"), _validation(plan, data, progress, ranks)
    return train_on(
        plan, data, rows, plan.folder, validate=validate, progress=progress, ranks=ranks
    )


def train_all_rows(
    plan: Plan, data: PreparedData, progress: Progress, ranks: Ranks = ALONE
) -> TrainedAdapter:
    """Train on every row of every partition, into the run's final folder."""
    from datasets import concatenate_datasets

    from runner.data.preparation import partition_dataset

    rows = concatenate_datasets([partition_dataset(data, name) for name in data.partitions])
    progress.announce(f"  fitting on all {len(rows):,} examples")
    final = plan.folder.final
    return train_on(plan, data, rows, final, validate=None, progress=progress, ranks=ranks)


def train_in_ranks(plan: Plan, devices: Devices, folder: RunFolder) -> TrainedAdapter:
    """Train into ``folder`` in a fresh process for each device: the run's own, or its final one."""
    from runner.training.launching import launch_ranks

    command = own_command(
        "train-rank",
        *_told_of_run(plan),
        *("--strategy", devices.strategy),
        *(() if folder == plan.folder else ("--final",)),
    )
    # On a CPU no process may touch a GPU that happens to be there.
    hidden = {} if plan.device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    environment = {**own_environment(), **hidden}
    launch_ranks(command, devices.count, environment, scratch=folder.path)
    return read_training(folder)


def finished_training(folder: RunFolder) -> TrainedAdapter | None:
    """The record of a finished training whose adapter is still what it was."""
    if not (folder.training.is_file() and folder.adapter.is_dir()):
        return None
    record = read_training(folder)
    whole = folder_digest(folder.adapter) == record.adapter_digest
    return record if whole and folder_digest(folder.tokenizer) == record.tokenizer_digest else None


def finished_stages(plan: Plan, data: PreparedData) -> tuple[str, ...]:
    """Stages that ``run`` would not do again."""
    folder = plan.folder
    done = []
    if plan.recipe.evaluation.base and is_sealed_for(
        folder.evaluation / "base", inputs_of(plan, data, "base")
    ):
        done.append("evaluate base")
    if finished_training(folder) is not None:
        done.append("train")
        if is_sealed_for(folder.evaluation / "adapter", inputs_of(plan, data, "adapter")):
            done.append("evaluate adapter")
    return tuple(done)


def train_on(
    plan: Plan,
    data: PreparedData,
    rows: Dataset,
    folder: RunFolder,
    *,
    validate: Callable[[Any, int], float] | None,
    progress: Progress,
    ranks: Ranks = ALONE,
) -> TrainedAdapter:
    """Load the base model and train on ``rows`` into ``folder``."""
    from runner.base_model.loaded_model import load_model, memory_explained, quiet_libraries

    quiet_libraries()
    shards = ranks.count if ranks.sharded else 1
    loaded = load_model(plan.recipe, plan.model, device=plan.device, shards=shards)
    if ranks.first:
        save_tokenizer(loaded.tokenizer, data, folder.tokenizer)
    with memory_explained("hardware.micro_batch_tokens, or set hardware.activation_checkpointing"):
        adapter = train_adapter(
            plan.recipe, loaded, rows, folder, progress=progress, validate=validate, ranks=ranks
        )
    progress.announce(
        f"  trained {adapter.trainable_parameters:,} parameters for {adapter.steps} steps: loss "
        f"{adapter.history[-1]['loss']:.3f}, {adapter.tokens_per_second:,.0f} tokens/s"
        if adapter.history
        else f"  trained {adapter.trainable_parameters:,} parameters for {adapter.steps} steps"
    )
    return adapter


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, data: PreparedData, target: Path) -> None:
    """Save the tokenizer as it was trained with, padding on the left as generation needs it."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = data.chat_template
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
    remove(target)
    tokenizer.save_pretrained(str(target))


def _validation(
    plan: Plan, data: PreparedData, progress: Progress, ranks: Ranks = ALONE
) -> Callable[[Any, int], float] | None:
    """Held-out loss on the validation partition, each rank scoring a share of the examples.

    Where weights are exchanged in every forward pass each scores all: none may make more passes.
    """
    if plan.recipe.training.validate_every is None:
        return None
    from evalsuite.examples import read_examples
    from evalsuite.loss import score_examples

    examples = read_examples(data.path("validation"))
    share = examples if ranks.sharded else examples[ranks.rank :: ranks.count]
    tokens = evaluation_batch_tokens(plan.recipe, plan.device)

    def loss(model: Any, pad_token_id: int) -> float:  # noqa: ANN401 - a live model
        with progress.bar("validation") as advance:
            scored = score_examples(
                model,
                share,
                pad_token_id=pad_token_id,
                batch_tokens=tokens,
                on_progress=lambda done: advance(done, len(share), ""),
            )
        sums = ranks.of_all((sum(s.nll for s in scored), sum(s.tokens for s in scored)))
        return sum(nll for nll, _ in sums) / sum(tokens for _, tokens in sums)

    return loss


def evaluation_batch_tokens(recipe: Recipe, device: str) -> int:
    """Tokens in one batch of an evaluation, as the recipe says or as suits the device."""
    wanted = recipe.hardware.batch_tokens
    if isinstance(wanted, int):
        return wanted
    return 32_768 if device == "cuda" else 4_096


def weigh(
    plan: Plan,
    data: PreparedData,
    adapter: TrainedAdapter | Target,
    progress: Progress,
    *,
    previous: Path | None = None,
) -> Evidence:
    """Pair the stored results of base and adapter into the evidence that gates judge.

    ``previous`` is a release that gates compare with instead of the recipe's last one.
    """
    from evalsuite.clean_rows import read_leaked
    from evalsuite.evidence import gather_evidence
    from evalsuite.record_files import write_evidence
    from evalsuite.records import Identity

    evaluation = plan.recipe.evaluation.model_dump(mode="json")
    used = evaluated_names(plan)
    asked = [[b.name, b.digest] for b in plan.benchmarks]
    add_lm_eval_leaks(plan, data)
    identity = Identity(
        data_digest=plan.source.digest,
        template_digest=data.template_digest,
        examples_digest=digest_of_json({n: data.part(n).digest for n in sorted(used)}),
        decoding_digest=digest_of_json([evaluation["generation"], asked, evaluation["lm_eval"]]),
        code_version=code_digest(MEASURING),
    )
    evidence = gather_evidence(
        folder=plan.folder.evaluation,
        base=plan.recipe.evaluation.base,
        identity=identity,
        base_digest=plan.model.digest,
        adapter_digest=adapter.adapter_digest,
        leaked=read_leaked(plan.folder.listings / LEAKED_FILE),
        release=compared_release(plan, previous, progress.announce),
    )
    write_evidence(evidence, plan.folder.evidence)
    return evidence


def add_lm_eval_leaks(plan: Plan, data: PreparedData) -> None:
    """Look for the questions of lm-eval's tasks in train: known once they have been asked."""
    block = plan.recipe.evaluation.lm_eval
    if block is None or block.leaks == "ignore":
        return
    folder = plan.folder.evaluation / "adapter"
    leaks = find_lm_eval_leaks(folder, data, plan.recipe.dataset.leaks)
    if leaks is not None:
        write_json(plan.folder.data, replace(data, leaks=leaks.report(data.leaks)).as_json())
        leaks.add_to(plan.folder.listings)


def judge(plan: Plan, evidence: Evidence, progress: Progress) -> Verdict:
    """Judge the recipe's gates, and note in the ledger what they looked at."""
    from evalsuite.record_files import write_verdict

    gates = gates_of(plan.recipe.gates)
    verdict = judged(gates, evidence, plan.folder, plan.recipe_file, announce=progress.announce)
    write_verdict(verdict, plan.folder.verdict)
    if plan.recipe.training.trackers and plan.target is None:
        _tell_trackers(plan, evidence, verdict, progress)
    return verdict


def _tell_trackers(plan: Plan, evidence: Evidence, verdict: Verdict, progress: Progress) -> None:
    measured = {f"{m.subject}/{m.metric}": m.value for m in evidence.measurements}
    differences = {
        f"difference/{d.metric}": d.difference for d in evidence.differences if d.against == "base"
    }
    conclude(
        plan.recipe.training.trackers,
        plan.recipe.model_dump(mode="json"),
        plan.folder.path,
        verdict=verdict.verdict,
        digest=f"{verdict.verdict} {verdict.evidence_digest}",
        figures={**measured, **differences},
        step=read_training(plan.folder).steps,
        announce=progress.announce,
    )


def gates_of(blocks: tuple[GateBlock, ...]) -> tuple[Gate, ...]:
    """A recipe's gates as the eval suite's."""
    return tuple(
        Gate(
            metric=block.metric,
            claim=block.claim,
            margin=block.margin or 0.0,
            at=block.at,
            confidence=block.confidence,
            against=block.against,
            first_release=block.first_release,
        )
        for block in blocks
    )


def report(plan: Plan) -> None:
    """Write the HTML report from the stored records alone."""
    from reports.run_report import write_run_report

    with timed(plan.folder, "report"):
        write_run_report(plan.folder.path, plan.folder.report)


def release(
    folder: RunFolder,
    verdict: Verdict,
    *,
    final: bool = False,
    key: Ed25519PrivateKey | None = None,
) -> Path | None:
    """Pack the release where every gate holds; otherwise there is none, and no old one is left.

    ``final`` packs the fit on all data, whose figures are those of the gated run. ``key`` signs.

    Raises:
        MachineError: adapter, tokenizer, evaluations or evidence are not those that were judged.
    """
    from reports.model_card import model_card
    from reports.run_report import write_run_report
    from runner.release import check_evidence, make_release

    if verdict.verdict != "PASS":
        folder.withdraw()
        return None
    check_evidence(folder, verdict.adapter_digest)
    adapter = folder.final if final else folder
    # The stored verdict may have been given again since the report was written.
    write_run_report(folder.path, folder.report)
    packed = make_release(folder, adapter, card=model_card(folder.path, final=final), key=key)
    if not final and verdict.adapter_digest is not None:
        note_release(folder, verdict.adapter_digest)
    return packed
