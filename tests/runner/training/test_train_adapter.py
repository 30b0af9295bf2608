"""Training on the tiny model: what is learned, what a checkpoint keeps, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from runner.base_model.loaded_model import LoadedModel, load_model, quiet_libraries
from runner.base_model.model_source import find_model
from runner.errors import DataError, UsageError
from runner.progress import Progress
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training.adapter_probe import check_reloaded, probe_logits, probe_rows
from runner.training.lora import load_adapter
from runner.training.train_adapter import (
    TrainedAdapter,
    read_training,
    train_adapter,
)


@pytest.fixture(scope="module")
def rows() -> Dataset:
    generator = torch.Generator().manual_seed(1)
    examples = []
    for _ in range(30):
        length = int(torch.randint(8, 40, (1,), generator=generator))
        ids = torch.randint(3, 9, (length,), generator=generator).tolist()
        examples.append({"input_ids": ids, "labels": [-100] * 4 + ids[4:]})
    return Dataset.from_list(examples)


FLOAT32 = ("float32", "float32")
Changes = dict[str, dict[str, Any]]


@pytest.fixture
def training_of(
    tmp_path: Path, tiny_recipe: dict[str, Any], rows: Dataset
) -> Callable[..., tuple[TrainedAdapter, RunFolder]]:
    """Train with changed blocks into a folder of that name; returns the record and the folder."""

    def run(name: str, changes: Changes | None = None, **options: Any) -> Any:
        recipe, loaded = loaded_for(tiny_recipe, changes or {})
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        options.setdefault("progress", Progress())
        return train_adapter(recipe, loaded, rows, folder, **options), folder

    return run


def loaded_for(document: dict[str, Any], changes: Changes) -> tuple[Recipe, LoadedModel]:
    changed = {**document}
    for block, values in changes.items():
        changed[block] = {**changed[block], **values}
    recipe = Recipe.model_validate(changed)
    quiet_libraries()
    source = find_model(recipe.model.base, None, folder=Path("/"))
    return recipe, load_model(recipe, source, device="cpu")


def test_training_lowers_the_loss_and_keeps_its_record(training_of: Any) -> None:
    seen: list[float] = []

    def validate(model: Any, pad_token_id: int) -> float:
        seen.append(float(pad_token_id))
        return 1.5

    quiet = {"lora": {"dropout": 0.0}, "training": {"neftune_alpha": None}}
    record, folder = training_of("run", quiet, validate=validate)
    assert record == read_training(folder)
    assert record.steps == 12
    assert [point["step"] for point in record.history] == [2, 4, 6, 8, 10, 12]
    assert record.history[-1]["loss"] < record.history[0]["loss"] - 0.01
    assert [point["step"] for point in record.validation] == [6, 12]
    assert seen == [0.0, 0.0]
    assert record.target_modules[0] == "model.layers.0.self_attn.q_proj"
    assert record.trainable_parameters == 2 * 4 * ((32 + 32) + (32 + 16))
    assert not folder.checkpoints.exists()


def test_two_trainings_give_the_same_bytes(training_of: Any) -> None:
    first, _ = training_of("first")
    second, _ = training_of("second")
    assert first.adapter_digest == second.adapter_digest


class KilledError(Exception):
    """Stands for SIGKILL: nothing of ours catches it."""


def interrupted(training_of: Any, name: str, step: int, changes: Changes | None = None) -> None:
    class StoppingBar:
        def __enter__(self) -> Any:
            def advance(done: int, total: int, text: str) -> None:
                if done == step:
                    raise KilledError

            return advance

        def __exit__(self, *_: object) -> None:
            return None

    progress = Progress()
    progress.bar = lambda title, **_: StoppingBar()  # type: ignore[method-assign,assignment]
    with pytest.raises(KilledError):
        training_of(name, changes, progress=progress)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_an_interrupted_training_ends_with_the_same_bytes(training_of: Any, optimizer: str) -> None:
    changes = {"training": {"optimizer": optimizer}}
    straight, _ = training_of("straight", changes)
    interrupted(training_of, "broken", 8, changes)
    continued, _ = training_of("broken", changes)
    assert continued.resumed_from == (6,)
    assert continued.adapter_digest == straight.adapter_digest
    losses = [point["loss"] for point in continued.history]
    assert losses == pytest.approx([point["loss"] for point in straight.history])


def test_a_truncated_newest_checkpoint_gives_way(training_of: Any, tmp_path: Path) -> None:
    straight, _ = training_of("straight")
    interrupted(training_of, "broken", 11)
    newest = tmp_path / "broken" / "checkpoints" / "checkpoint-9"
    weights = newest / "optimizer.pt"
    weights.write_bytes(weights.read_bytes()[:-100])
    continued, _ = training_of("broken")
    assert continued.resumed_from == (6,)
    assert continued.adapter_digest == straight.adapter_digest


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_the_adapter_on_disk_is_the_one_in_memory(
    training_of: Any, tiny_recipe: dict[str, Any], variant: str
) -> None:
    _, folder = training_of("run", {"lora": {"variant": variant}})
    _, fresh = loaded_for(tiny_recipe, {})
    ids = probe_rows(folder.probe)
    base = probe_logits(fresh.model, ids)
    adapter = probe_logits(load_adapter(fresh.model, folder.adapter), ids)
    assert check_reloaded(base, adapter, folder.probe, FLOAT32) <= 1e-4
    with pytest.raises(DataError, match="not the one that was trained"):
        check_reloaded(adapter, base, folder.probe, FLOAT32)


def test_an_adapter_that_changes_nothing_is_refused(
    training_of: Any, tiny_recipe: dict[str, Any]
) -> None:
    from safetensors.torch import load_file, save_file

    _, folder = training_of("run")
    stored = load_file(str(folder.probe))
    _, fresh = loaded_for(tiny_recipe, {})
    base = probe_logits(fresh.model, probe_rows(folder.probe))
    save_file({**stored, **{f"logits.{i}": b for i, b in enumerate(base)}}, str(folder.probe))
    with pytest.raises(DataError, match="changes nothing"):
        check_reloaded(base, base, folder.probe, FLOAT32)


def test_no_path_of_this_machine_is_saved(training_of: Any, tiny_recipe: dict[str, Any]) -> None:
    _, folder = training_of("run", {"model": {}})
    config = json.loads((folder.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny_recipe["model"]["base"]
    assert config["target_modules"] == ["q_proj", "v_proj"]


def test_micro_batches_do_not_change_the_gradient(training_of: Any) -> None:
    """transformers#34191: unequal token counts per micro-batch once changed the gradient."""
    plain = {"lora": {"dropout": 0.0}, "training": {"neftune_alpha": None, "optimizer": "sgd"}}
    losses = []
    for size in (1, 80, 4000):
        record, _ = training_of(f"of-{size}", {**plain, "hardware": {"micro_batch_tokens": size}})
        losses.append([point["loss"] for point in record.history])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)


def test_neftune_and_dropout_are_read(training_of: Any) -> None:
    digests = {
        training_of(name, changes)[0].adapter_digest
        for name, changes in {
            "both": {},
            "no-noise": {"training": {"neftune_alpha": None}},
            "no-dropout": {"lora": {"dropout": 0.0}},
            "linear": {"training": {"schedule": "linear"}},
            "constant": {"training": {"schedule": "constant"}},
            "warm": {"training": {"warmup_ratio": 0.5}},
            "clipped": {"training": {"max_grad_norm": 1e-4}},
            "decayed": {"training": {"weight_decay": 10.0}},
        }.items()
    }
    assert len(digests) == 8


def test_checkpointed_activations_change_nothing(training_of: Any) -> None:
    # Dropout off: recomputing the forward pass draws the noise again from its saved state.
    plain: Changes = {"lora": {"dropout": 0.0}, "training": {"neftune_alpha": None}}
    on = {**plain, "hardware": {"activation_checkpointing": True}}
    losses = [
        [point["loss"] for point in training_of(name, changes)[0].history]
        for name, changes in {"off": plain, "on": on}.items()
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_tensorboard_gets_the_curve(training_of: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changes = {"training": {"trackers": ["tensorboard"]}}
    _, folder = training_of("run", changes, validate=lambda *_: 1.5)
    events = EventAccumulator(str(folder.path / "events")).Reload()
    assert [point.step for point in events.Scalars("train/loss")] == [2, 4, 6, 8, 10, 12]
    assert [(p.step, p.value) for p in events.Scalars("validation/loss")] == [(6, 1.5), (12, 1.5)]


def test_the_last_step_is_in_the_curve(training_of: Any) -> None:
    record, _ = training_of("run", {"training": {"log_every": 5}})
    assert [point["step"] for point in record.history] == [5, 10, 12]


def test_weights_without_gradient_end_the_run(training_of: Any, monkeypatch: Any) -> None:
    """The planted error: an inference kernel that detaches its output in one layer."""
    from transformers.models.mistral.modeling_mistral import MistralDecoderLayer

    forward = MistralDecoderLayer.forward

    def detached(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        out = forward(self, hidden_states, *args, **kwargs)
        if self.self_attn.layer_idx != 0:
            return out
        return tuple(o.detach() for o in out) if isinstance(out, tuple) else out.detach()

    monkeypatch.setattr(MistralDecoderLayer, "forward", detached)
    with pytest.raises(DataError, match=r"4 of 8 adapter tensors got no gradient"):
        training_of("run")


def test_a_loss_that_is_no_number_ends_the_run(training_of: Any) -> None:
    changes = {"training": {"learning_rate": 100, "optimizer": "sgd", "max_grad_norm": None}}
    with pytest.raises(DataError, match=r"Lower training\.learning_rate"):
        training_of("run", {**changes, "lora": {"alpha": 1_000_000}})


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "w_proj"], r"'w_proj' match no linear module .* There are: .*q_proj"),
        (r".*\.w_proj", r"regular expression '.*' matches no module's full name"),
    ],
)
def test_targets_that_match_nothing_are_refused(
    training_of: Any, targets: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        training_of("run", {"lora": {"target_modules": targets}})


def test_all_linear_and_patterns_match_what_they_say(training_of: Any) -> None:
    everything, _ = training_of("all", {"lora": {"target_modules": "all-linear"}})
    assert len(everything.target_modules) == 2 * 7
    pattern, _ = training_of("one", {"lora": {"target_modules": r".*layers\.1.*\.(q|v)_proj"}})
    assert pattern.target_modules == (
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
    )


def test_eight_bit_moments_train(training_of: Any) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra bitsandbytes is not installed")
    record, _ = training_of("bnb", {"training": {"optimizer": "paged_adamw_8bit"}})
    assert record.history[-1]["loss"] < record.history[0]["loss"]
    assert any("adamw_8bit instead of paged_adamw_8bit" in text for text in record.decisions)
