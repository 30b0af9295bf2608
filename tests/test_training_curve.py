"""The loss curve is that of plain TRL: an untouched SFTTrainer, given the same examples."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from runner import stages
from runner.base_model.loaded_model import load_model, quiet_libraries
from runner.plan import Plan, make_plan
from runner.progress import Progress
from runner.run_folder import RunFolder
from runner.training.step_schedule import make_schedule
from runner.training.train_adapter import train_adapter

QUICKSTART = Path(__file__).resolve().parent.parent / "recipes" / "quickstart"
ROWS, BATCH_SIZE, SEED = 320, 4, 42
STEPS = [15, pytest.param(60, marks=pytest.mark.slow)]


def notebook_recipe(folder: Path, steps: int, **training: Any) -> Path:
    """The quickstart's model and first rows, with the notebook's LoRA and training."""
    with (QUICKSTART / "functions.jsonl").open(encoding="utf-8") as lines:
        (folder / "rows.jsonl").write_text("".join(itertools.islice(lines, ROWS)), encoding="utf-8")
    lora = {"r": 32, "alpha": 16, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    settings = {
        "max_steps": steps,
        "batch_size": BATCH_SIZE,
        "learning_rate": 3e-4,
        "schedule": "cosine",
        "warmup_ratio": 0.05,
        "weight_decay": 1e-3,
        "max_grad_norm": 0.3,
        "log_every": 1,
    }
    recipe = {
        "version": 1,
        "name": "curve",
        "seed": SEED,
        "dataset": {
            "source": "rows.jsonl",
            "format": "alpaca",
            "partition": {"by": "position", "train": 0.8, "validation": 0.1, "test": 0.1},
        },
        "template": {"chat": "tokenizer", "loss_on": "completion", "max_length": 256},
        "model": {
            "base": str(QUICKSTART / "model"),
            "dtype": "float32",
            "pad_token": "<unk>",
        },
        "lora": lora,
        "training": {**settings, **training},
        "evaluation": {"loss": ["test"]},
        "gates": [],
        "hardware": {"device": "cpu"},
    }
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """TRL compiles its output head: on a CPU that takes longer than all the steps."""
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def our_losses(plan: Plan, rows: Any, folder: Path) -> list[float]:
    """The loss of every step by this runner."""
    loaded = load_model(plan.recipe, plan.model, device="cpu")
    run = RunFolder(folder / "run")
    run.path.mkdir()
    loaded.tokenizer.save_pretrained(str(run.tokenizer))
    record = train_adapter(plan.recipe, loaded, rows, run, progress=Progress())
    return [point["loss"] for point in record.history]


def losses_of_trl(plan: Plan, rows: Any, folder: Path) -> list[float]:
    """The loss of every step by TRL, whose documentation these arguments follow."""
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    recipe, loaded = plan.recipe, load_model(plan.recipe, plan.model, device="cpu")
    training, lora = recipe.training, recipe.lora
    set_seed(SEED)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=int(lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )
    trainer = SFTTrainer(
        model=get_peft_model(loaded.model, config),
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=BATCH_SIZE,
            max_steps=training.max_steps or 0,
            learning_rate=training.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=training.warmup_ratio,
            weight_decay=training.weight_decay,
            max_grad_norm=training.max_grad_norm or 0.0,
            logging_steps=1,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            max_length=None,
        ),
        train_dataset=rows,
        processing_class=loaded.tokenizer,
    )
    trainer.train()
    return [point["loss"] for point in trainer.state.log_history if "loss" in point]


def train_rows(plan: Plan) -> Any:
    """The prepared rows of the train partition."""
    from datasets import Dataset

    rows = Dataset.from_parquet(str(stages.prepared(plan, Progress()).path("train")))
    return rows.select_columns(["input_ids", "labels"])


@pytest.fixture(scope="module")
def curve_of_trl(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[float]]:
    """The losses of so many steps by TRL, in the order of our schedule."""
    folder = tmp_path_factory.mktemp("trl")

    @cache
    def curve(steps: int) -> list[float]:
        quiet_libraries()
        plan = make_plan(notebook_recipe(folder, steps), runs=folder / "runs")
        rows = train_rows(plan)
        lengths = [len(ids) for ids in rows["input_ids"]]
        schedule = make_schedule(lengths, steps=steps, batch_size=BATCH_SIZE, seed=SEED)
        return losses_of_trl(plan, rows.select(list(schedule)), folder)

    return curve


def largest_difference(folder: Path, theirs: list[float], **changed: Any) -> float:
    """Of a step's loss, ours against TRL's, in nats; ``changed`` alters our training."""
    plan = make_plan(notebook_recipe(folder, len(theirs), **changed), runs=folder / "runs")
    curve = our_losses(plan, train_rows(plan), folder)
    return max(abs(a - b) for a, b in zip(curve, theirs, strict=True))


@pytest.mark.parametrize("steps", STEPS)
def test_the_loss_curve_of_the_notebooks_settings_is_that_of_plain_trl(
    tmp_path: Path, curve_of_trl: Callable[[int], list[float]], steps: int
) -> None:
    assert largest_difference(tmp_path, curve_of_trl(steps)) < 1e-3


def test_two_more_steps_of_warm_up_would_be_seen_in_the_curve(
    tmp_path: Path, curve_of_trl: Callable[[int], list[float]]
) -> None:
    assert largest_difference(tmp_path, curve_of_trl(15), warmup_ratio=0.2) > 1e-3
