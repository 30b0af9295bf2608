"""Every option of the blocks about learning has an effect that is seen here, or a test fails."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from runner.base_model.loaded_model import (
    apply_threads,
    choose_device,
    load_model,
    load_tokenizer,
    quiet_libraries,
)
from runner.base_model.model_source import find_model
from runner.base_model.quantization import check_quantization, loading_arguments
from runner.digests import file_digest
from runner.errors import MachineError, UsageError
from runner.progress import Progress
from runner.recipe import Lora, Recipe
from runner.recipe.option_reads import options_of
from runner.run_folder import RunFolder
from runner.stages import evaluation_batch_tokens
from runner.training.activation_memory import layers_of
from runner.training.lora import attach_adapter
from runner.training.train_adapter import TrainedAdapter, train_adapter

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a training of a few steps shows of itself, in memory and on disk."""

    record: TrainedAdapter
    folder: RunFolder
    checkpoints: tuple[str, ...]
    layout: str
    recomputed: int
    deterministic: bool

    @property
    def trained_values(self) -> int:
        return self.record.trainable_parameters

    def told(self, about: str) -> list[str]:
        """What was decided about something; other decisions tell of memory, and change by it."""
        return [text for text in self.record.decisions if text.startswith(about)]


Train = Callable[[Document], Seen]


@pytest.fixture(scope="module")
def rows() -> Dataset:
    generator = torch.Generator().manual_seed(1)
    examples = []
    for _ in range(12):
        length = int(torch.randint(8, 40, (1,), generator=generator))
        ids = torch.randint(3, 9, (length,), generator=generator).tolist()
        examples.append({"input_ids": ids, "labels": [-100] * 4 + ids[4:]})
    return Dataset.from_list(examples)


@pytest.fixture(scope="module")
def document(tiny_model_folder: Path) -> Document:
    """A recipe in which every option has something to act on."""
    return {
        "version": 1,
        "name": "tiny",
        "dataset": {"source": "rows.jsonl"},
        "model": {"base": str(tiny_model_folder), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]},
        "training": {
            "max_steps": 3,
            "batch_size": 2,
            "learning_rate": 0.01,
            "warmup_ratio": 0.3,
            "log_every": 1,
            "checkpoint_every": 3,
        },
        "evaluation": {"loss": ["test"]},
        "hardware": {"device": "cpu", "threads": 1},
    }


@pytest.fixture(scope="module")
def train(
    document: Document, rows: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Train]:
    """Train with the options of some blocks changed."""
    quiet_libraries()
    gc.freeze()  # accelerate collects garbage in every training: half of these tests' time
    source = find_model(document["model"]["base"], None, folder=Path("/"))

    def run(changes: Document) -> Seen:
        recipe = Recipe.model_validate(changed(document, changes))
        folder = RunFolder(tmp_path_factory.mktemp("run"))
        kept: dict[str, Any] = {}

        def look(task: Any, trainer: Any) -> None:
            kept["layout"] = trainer.engine.parts.layout
            layers = layers_of(task.model)
            kept["recomputed"] = sum(layer.gradient_checkpointing for layer in layers)
            kept["deterministic"] = torch.are_deterministic_algorithms_enabled()
            saved = sorted(folder.checkpoints.glob("checkpoint-*"))
            kept["checkpoints"] = tuple(path.name for path in saved)

        record = train_adapter(
            recipe,
            load_model(recipe, source, device="cpu"),
            rows,
            folder,
            progress=Progress(),
            validate=lambda *_: 1.5,
            inspect=look,
        )
        return Seen(record=record, folder=folder, **kept)

    yield run
    gc.unfreeze()


@pytest.fixture(scope="module")
def plain(train: Train) -> Seen:
    """What the unchanged recipe shows."""
    return train({})


def changed(document: Document, changes: Document) -> Document:
    new = {block: {**document.get(block, {}), **values} for block, values in changes.items()}
    return {**document, **new}


def learned(seen: Seen) -> object:
    """Other weights, byte by byte; the configuration beside them says what was asked for anyway."""
    return file_digest(seen.folder.adapter / "adapter_model.safetensors")


def modules(seen: Seen) -> object:
    return seen.record.target_modules


def shape(seen: Seen) -> object:
    return seen.trained_values


def history(seen: Seen) -> object:
    return [point["step"] for point in seen.record.history]


# Option -> another value of it, and what of a training it changes.
TRAINED: dict[str, tuple[Any, Callable[[Seen], object]]] = {
    "lora.r": (8, shape),
    "lora.alpha": (16, learned),
    "lora.dropout": (0.5, learned),
    "lora.target_modules": (["k_proj"], modules),
    "lora.exclude_modules": (["v_proj"], modules),
    "lora.rank_pattern": ({"v_proj": 2}, shape),
    "lora.alpha_pattern": ({"v_proj": 64}, learned),
    "lora.modules_to_save": (["lm_head"], shape),
    "lora.trained_tokens": (["$", "%"], shape),
    "lora.variant": ("rslora", learned),
    "training.max_steps": (4, lambda seen: seen.record.steps),
    "training.batch_size": (3, lambda seen: seen.record.epochs),
    "training.learning_rate": (0.02, learned),
    "training.schedule": ("constant", learned),
    "training.warmup_ratio": (0.9, learned),
    "training.optimizer": ("sgd", learned),
    "training.weight_decay": (10.0, learned),
    "training.max_grad_norm": (1e-4, learned),
    "training.neftune_alpha": (5, learned),
    "training.log_every": (2, history),
    "training.validate_every": (2, lambda seen: seen.record.validation),
    "training.checkpoint_every": (2, lambda seen: seen.checkpoints),
    "training.trackers": (["tensorboard"], lambda seen: (seen.folder.path / "events").is_dir()),
    "hardware.micro_batch_tokens": (50, lambda seen: seen.record.micro_batch_tokens),
    "hardware.attention": ("padded", lambda seen: seen.layout),
    "hardware.compile": (False, lambda seen: seen.told("layers: ")),
    "hardware.activation_checkpointing": (True, lambda seen: seen.recomputed),
    "hardware.activation_offload": (True, lambda seen: seen.told("hardware.activation_offload")),
    "hardware.deterministic": (True, lambda seen: seen.deterministic),
}


@pytest.mark.parametrize("option", TRAINED)
def test_an_option_changes_the_training(train: Train, plain: Seen, option: str) -> None:
    value, effect = TRAINED[option]
    block, _, name = option.partition(".")
    assert effect(train({block: {name: value}})) != effect(plain)


def test_epochs_say_how_long(train: Train) -> None:
    seen = train({"training": {"max_steps": None, "epochs": 1}})
    assert (seen.record.steps, seen.record.epochs) == (6, 1.0)


def test_biases_are_trained() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    def count(bias: str) -> int:
        config = Qwen2Config(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=16,
            vocab_size=20,
        )
        block = Lora.model_validate({"r": 2, "target_modules": ["q_proj"], "bias": bias})
        model = attach_adapter(Qwen2ForCausalLM(config), block, seed=0)
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    assert count("lora_only") == count("none") + 16
    assert count("all") == count("none") + 3 * 16


def recipe_of(document: Document, **changes: Document) -> Recipe:
    return Recipe.model_validate(changed(document, changes))


GPTQ = {"method": "gptq", "bits": 4}


def test_quantization_chooses_how_a_base_is_loaded(document: Document) -> None:
    def loading(**block: Any) -> Any:
        recipe = recipe_of(document, quantization={**GPTQ, **block})
        return loading_arguments(recipe.quantization, "cpu")

    assert loading(method="none", bits=None) == {}
    config = loading()["quantization_config"]
    assert (config.bits, config.backend) == (4, "gptq_torch")
    assert loading(bits=8)["quantization_config"].bits == 8
    with pytest.raises(UsageError, match="triton needs a CUDA device"):
        loading(kernel="triton")


OWN = {"bits": 4, "group_size": 32, "desc_act": False, "sym": True}


@pytest.fixture
def gptq_folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A model that says of itself that it is a GPTQ checkpoint."""
    folder = shutil.copytree(tiny_model_folder, tmp_path / "gptq")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", **OWN}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("group_size", 64),
        ("desc_act", True),
        ("sym", False),
        ("damp", 0.01),
        ("calibration", {"examples": 7}),
    ],
)
def test_how_gptq_rounds_is_held_against_a_checkpoint(
    key: str, value: Any, document: Document, gptq_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a base that is not quantized they decide how it will be: tests/runner/quantizing."""
    monkeypatch.setattr("runner.base_model.quantization.checks.require_packages", lambda _: None)
    source = find_model(str(gptq_folder), None, folder=Path("/"))
    check_quantization(recipe_of(document, quantization=GPTQ).quantization, source)
    block = recipe_of(document, quantization={**GPTQ, key: value}).quantization
    with pytest.raises(UsageError, match=f"quantization.{key}: "):
        check_quantization(block, source)


def test_special_tokens_are_added_as_such(document: Document) -> None:
    def shown(**lora: Any) -> str:
        recipe = recipe_of(document, lora={"trained_tokens": ["<|x|>"], **lora})
        tokenizer = load_tokenizer(recipe, find_model(recipe.model.base, None, folder=Path("/")))
        return tokenizer.decode(tokenizer("a<|x|>b")["input_ids"], skip_special_tokens=True)

    assert (shown(), shown(special_tokens=["<|x|>"])) == ("a<|x|>b", "ab")


def test_the_device_is_chosen(document: Document) -> None:
    assert choose_device(recipe_of(document).hardware.device) == "cpu"
    wanted = recipe_of(document, hardware={"device": "cuda"}).hardware.device
    if torch.cuda.is_available():
        assert choose_device(wanted) == "cuda"
        return
    with pytest.raises(MachineError, match="no CUDA device here"):
        choose_device(wanted)


def test_threads_are_set(document: Document) -> None:
    before = torch.get_num_threads()
    try:
        hardware = recipe_of(document, hardware={"threads": before + 1}).hardware
        assert apply_threads(hardware.threads) == before + 1
    finally:
        torch.set_num_threads(before)


def test_batches_of_an_evaluation_have_so_many_tokens(document: Document) -> None:
    recipe = recipe_of(document, hardware={"batch_tokens": 77})
    assert evaluation_batch_tokens(recipe, "cpu") == 77
    assert evaluation_batch_tokens(recipe_of(document), "cpu") == 4096


# Option -> the test here that shows its effect, where it is no training.
OTHERWISE: dict[str, Callable[..., None]] = {
    "quantization.method": test_quantization_chooses_how_a_base_is_loaded,
    "quantization.bits": test_quantization_chooses_how_a_base_is_loaded,
    "quantization.kernel": test_quantization_chooses_how_a_base_is_loaded,
    **{
        f"quantization.{key}": test_how_gptq_rounds_is_held_against_a_checkpoint
        for key in ("group_size", "desc_act", "sym", "damp", "calibration")
    },
    "lora.bias": test_biases_are_trained,
    "lora.special_tokens": test_special_tokens_are_added_as_such,
    "training.epochs": test_epochs_say_how_long,
    "hardware.device": test_the_device_is_chosen,
    "hardware.threads": test_threads_are_set,
    "hardware.batch_tokens": test_batches_of_an_evaluation_have_so_many_tokens,
}


def test_no_option_is_forgotten_here(document: Document) -> None:
    assert {*TRAINED, *OTHERWISE} == set(options_of(recipe_of(document)))
    assert not TRAINED.keys() & OTHERWISE.keys()
