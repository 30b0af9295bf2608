"""The whole path on a CUDA device; `make test-gpu`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.cli import guarded
from runner.commands.run import run
from runner.run_folder import open_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_run_on_the_gpu(
    dtype: str, tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    tiny_recipe["hardware"] = {"device": "cuda"}
    tiny_recipe["model"]["dtype"] = dtype
    tiny_recipe["training"]["max_steps"] = 40
    path = write_recipe(tiny_recipe)
    code = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    folder = open_run(tmp_path / "runs" / "tiny")
    assert code in (0, 3)  # carried out and judged; what it is worth is not the point here
    assert json.loads(folder.lock.read_text())["hardware"]["device"] == "cuda"
    history = json.loads(folder.training.read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    reload = json.loads((folder.path / "reload.json").read_text())
    assert reload["base_rows_repeated"] > 0


def test_checkpointed_activations_train_on_the_gpu(
    tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    tiny_recipe["hardware"] = {"device": "cuda", "activation_checkpointing": True}
    tiny_recipe["model"]["dtype"] = "bfloat16"
    path = write_recipe(tiny_recipe)
    code = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    assert code in (0, 3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("whole", ["norm", "embed_tokens", "lm_head"])
def test_whole_modules_and_token_rows_learn_in_half_precision(
    dtype: str, whole: str, tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Gradients of float16 weights cannot be scaled, and bfloat16 ones lose small steps."""
    tiny_recipe["hardware"] = {"device": "cuda"}
    tiny_recipe["model"]["dtype"] = dtype
    tiny_recipe["lora"] |= {"modules_to_save": [whole], "trained_tokens": ["return"]}
    tiny_recipe["training"]["max_steps"] = 40
    path = write_recipe(tiny_recipe)
    code = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    assert code in (0, 3)
    folder = open_run(tmp_path / "runs" / "tiny")
    history = json.loads(folder.training.read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    reload = json.loads((folder.path / "reload.json").read_text())
    assert reload["largest_logit_difference"] < 1e-2


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_two_gpus_learn_what_one_does(
    strategy: Any, dtype: str, tolerance: float, tiny_recipe: dict[str, Any], write_recipe: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The curve of five examples a step, dealt out to two devices, is that of one."""
    tiny_recipe["hardware"] = {"device": "cuda", "micro_batch_tokens": 130}
    tiny_recipe["model"]["dtype"] = dtype
    tiny_recipe["lora"]["dropout"] = 0
    tiny_recipe["training"] |= {"batch_size": 5, "neftune_alpha": None, "log_every": 1}
    path = write_recipe(tiny_recipe)
    curves = []
    for devices, chosen in ((1, "ddp"), (2, strategy)):
        runs = tmp_path / f"on-{devices}"
        command = partial(run, str(path), runs=runs, device=None, restart=False)
        assert guarded(partial(command, devices=devices, strategy=chosen)) in (0, 1, 3)
        record = json.loads(open_run(runs / "tiny").training.read_text())
        assert record["devices"] == devices
        curves.append([point["loss"] for point in (*record["history"], *record["validation"])])
    assert curves[1] == pytest.approx(curves[0], abs=tolerance)


def test_figures_of_a_gpu_are_those_of_its_clock(
    tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    """A GPU works behind: seconds that only count launches would promise more than the peak."""
    from runner.training.peak_speed import device_peak

    tiny_recipe["hardware"] = {"device": "cuda"}
    tiny_recipe["model"]["dtype"] = "bfloat16"
    path = write_recipe(tiny_recipe)
    guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    record = json.loads(open_run(tmp_path / "runs" / "tiny").training.read_text())
    known = device_peak("cuda", "bfloat16") is not None
    for point in (record, *record["history"]):
        assert (point.get("utilization") is not None) == known
        assert not known or 0 < point["utilization"] < 1
        assert 0 < point["peak_memory_bytes"] < torch.cuda.get_device_properties(0).total_memory
    assert record["padding"] == 0  # packed
    assert record["seconds"] <= record["wall_seconds"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_self_test_holds_on_the_gpu(
    dtype: str,
    deterministic: bool,
    tiny_recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rounding stays within what is allowed, also of a training that continues."""
    tiny_recipe["hardware"] = {"device": "cuda", "deterministic": deterministic}
    tiny_recipe["model"]["dtype"] = dtype
    path, runs = write_recipe(tiny_recipe), tmp_path / "runs"
    code = guarded(lambda: run(str(path), runs=runs, device=None, restart=False, self_test=True))
    assert code == 0, capsys.readouterr().out
    assert not runs.exists()


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("recomputed", [0, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_memory_that_is_traced_is_what_a_gpu_takes(
    layout: Any, recomputed: int, dtype: torch.dtype
) -> None:
    """As accelerate computes it: half precision under autocast, with adapters in float32."""
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    from runner.training.activation_memory import checkpoint_layers
    from runner.training.computing_memory import Batch, compute_as_autocast, traced_bytes
    from runner.training.step_engine import Parts, StepEngine
    from runner.training.token_budget import TokenBudget
    from runner.training.training_rows import TrainingRow

    config = MistralConfig(
        vocab_size=32_000, hidden_size=1024, intermediate_size=3584, num_hidden_layers=8,
        num_attention_heads=16, num_key_value_heads=4, attn_implementation="sdpa",
    )  # fmt: skip
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear")

    def made(device: str) -> Any:
        with torch.device(device):
            model = get_peft_model(MistralForCausalLM(config).to(dtype), lora)
        checkpoint_layers(model, recomputed)
        return model.train()

    length, count, half = 256, 16, dtype != torch.float32
    ids = torch.randint(5, 300, (length,))
    labels = ids.where(torch.arange(length) > 127, -100)
    rows = [TrainingRow(input_ids=ids, labels=labels)] * (count - 1)
    rows.append(TrainingRow(input_ids=ids[:-8], labels=labels[:-8]))  # so that there is padding
    model = made("cuda")
    budget = TokenBudget(tokens=10**6, reason="")
    parts = Parts(layout=layout, budget=budget, pad_token_id=0)
    engine = StepEngine(model, model.get_base_model(), parts)
    supervised = count * 128
    with torch.autocast("cuda", dtype, enabled=half):
        engine.gradients(rows, supervised=supervised)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        engine.gradients(rows, supervised=supervised)
    taken = torch.cuda.max_memory_allocated() - before
    skeleton = made("meta")
    if half:
        compute_as_autocast(skeleton, dtype)
    packed = layout == "packed"
    batch = Batch(
        rows=1 if packed else count,
        width=length * count if packed else length,
        supervised=supervised,
        packed=packed,
    )
    assert traced_bytes(skeleton, batch, device="cuda") == pytest.approx(taken, rel=0.15)


def test_the_peak_of_a_gpu_run_is_what_plan_says(
    tiny_recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a tiny model scratch space is nearly all, so that it is a bound here."""
    from runner.commands.plan import plan

    tiny_recipe["hardware"] = {"device": "cuda", "activation_offload": True, "compile": False}
    tiny_recipe["model"]["dtype"] = "bfloat16"
    path, runs = write_recipe(tiny_recipe), tmp_path / "runs"
    assert guarded(lambda: plan(str(path), runs=runs, device=None, format="json")) == 0
    memory = json.loads(capsys.readouterr().out)["forecast"]["memory"]
    guarded(lambda: run(str(path), runs=runs, device=None, restart=False))
    record = json.loads(open_run(runs / "tiny").training.read_text())
    assert 0 < record["peak_memory_bytes"] < memory["peak"] < memory["free"]


def test_as_few_layers_are_recomputed_as_a_small_memory_takes(
    tiny_recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from runner.training import trainer_setup

    monkeypatch.setattr(trainer_setup, "free_bytes", lambda _: 1_000_000)
    tiny_recipe["hardware"] = {"device": "cuda"}
    path = write_recipe(tiny_recipe)
    guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    record = json.loads(open_run(tmp_path / "runs" / "tiny").training.read_text())
    about = [text for text in record["decisions"] if "activation_checkpointing: auto is" in text]
    assert len(about) == 1


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"])
def test_optimizers_of_bitsandbytes_train_on_the_gpu(
    optimizer: str,
    tiny_recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra bitsandbytes is not installed")
    tiny_recipe["hardware"] = {"device": "cuda"}
    tiny_recipe["training"]["optimizer"] = optimizer
    path = write_recipe(tiny_recipe)
    guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    record = json.loads(open_run(tmp_path / "runs" / "tiny").training.read_text())
    assert record["history"][-1]["loss"] < record["history"][0]["loss"]
    assert not any("instead of" in text for text in record["decisions"])


def test_two_deterministic_runs_give_the_same_adapter_bytes(
    tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    tiny_recipe["hardware"] = {"device": "cuda", "deterministic": True}
    tiny_recipe["model"]["dtype"] = "bfloat16"
    tiny_recipe["training"]["max_steps"] = 40
    path = write_recipe(tiny_recipe)
    digests = []
    for number in ("first", "second"):
        runs = tmp_path / number
        assert guarded(lambda: run(str(path), runs=runs, device=None, restart=False)) in (0, 3)  # noqa: B023 - called at once
        digests.append(json.loads(open_run(runs / "tiny").training.read_text())["adapter_digest"])
    assert digests[0] == digests[1]


@pytest.fixture
def little_memory() -> Iterator[Callable[[int], None]]:
    """Limits CUDA's allocator to as many bytes more than it has now."""
    whole = torch.cuda.get_device_properties(0).total_memory

    def limit(more: int) -> None:
        torch.cuda.empty_cache()
        allowed = torch.cuda.memory_reserved() + more
        torch.cuda.set_per_process_memory_fraction(allowed / whole)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_step_survives_the_limit_of_the_allocator_with_the_same_gradients(
    layout: Any, little_memory: Callable[[int], None]
) -> None:
    """PyTorch's own allocator refuses, in the middle of a step."""
    from runner.training.step_engine import Parts, StepEngine
    from runner.training.token_budget import TokenBudget
    from runner.training.training_rows import TrainingRow
    from tests.test_gpu_attention import adapted, assert_near

    model = adapted(layers=4, dtype=torch.float32, hidden_size=512, intermediate_size=2048)
    rows = []
    for length in (900, 30, 700, 450, 1000, 12, 640, 800):
        ids = torch.arange(length) % 97
        labels = ids.where(torch.arange(length) > length // 3, -100)
        rows.append(TrainingRow(input_ids=ids, labels=labels))
    supervised = sum(int((row.labels[1:] != -100).sum()) for row in rows)

    def gradients(tokens: int, said: list[str]) -> dict[str, torch.Tensor]:
        model.zero_grad(set_to_none=True)
        budget = TokenBudget(tokens=tokens, reason="")
        parts = Parts(layout=layout, budget=budget, pad_token_id=0, announce=said.append)
        loss = StepEngine(model, model.get_base_model(), parts).gradients(
            rows, supervised=supervised
        )
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        return {"loss": loss, **found}

    quiet: list[str] = []
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    expected = gradients(1000, quiet)
    one_example = torch.cuda.max_memory_allocated() - held
    assert quiet == []
    said: list[str] = []
    little_memory(2 * one_example)
    found = gradients(10_000, said)
    assert said, "the planted limit was not met"
    assert "the step is repeated with" in said[0]
    assert_near(found, expected)
    for name, right in expected.items():
        error = (found[name] - right).norm() / right.norm()
        assert error < 1e-4, name
