"""Training on a checkpoint that exists already: the same as on its weights multiplied out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runner.base_model.base_weights import weights_digest
from runner.base_model.model_source import local_model
from runner.errors import ExitCode
from runner.recipe import Quantization
from runner.run_folder import RunFolder, open_run
from runner.stored_json import read_json
from runner.training.adapter_files import WEIGHTS, bound_to
from runner.training.lora import load_adapter
from runner.training.self_check import largest_difference
from tests.conftest import ROOT
from tests.quantization.classical_gptq import Scheme
from tests.quantization.conftest import NEEDS_GPTQ, Checkpoint
from tests.quantization.loading import loaded, logits, quantization_block, relative_error
from tests.quantization.training import (
    LORA,
    STEPS,
    dequantized,
    gradients,
    in_the_order_of,
    recipe_for,
    trained,
)

# Of gradients in float32, norm of the difference relative to the norm: 2e-6 was seen.
GRADIENTS = 1e-4
SECRET = "a calibration text that must go nowhere"
WAYS: dict[str, dict[str, Any]] = {
    "packed": {"hardware": {"attention": "packed"}},
    "padded": {"hardware": {"attention": "padded"}},
    "checkpointed": {"hardware": {"attention": "packed", "activation_checkpointing": True}},
    "rslora": {"lora": {**LORA, "variant": "rslora"}},
    "some": {"lora": {**LORA, "target_modules": ["q_proj", "v_proj"]}},
    "saved-head": {"lora": {**LORA, "modules_to_save": ["lm_head"]}},
}


@pytest.fixture(scope="module")
def plain(checkpoint: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of the plain models that belong to checkpoints, by scheme."""
    made: dict[Scheme, Path] = {}

    def make(scheme: Scheme) -> Path:
        if scheme not in made:
            folder = tmp_path_factory.mktemp("plain") / "model"
            made[scheme] = dequantized(checkpoint(scheme), folder)
        return made[scheme]

    return make


def _plain_model(folder: Path, **blocks: Any) -> Any:
    from runner.base_model.loaded_model import load_model

    return load_model(
        recipe_for(folder, None, **blocks), local_model("plain", folder), device="cpu"
    )


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("scheme", [Scheme(), Scheme(bits=8, sym=False, desc_act=True)], ids=str)
def test_gradients_are_those_of_the_dequantized_model(
    checkpoint: Callable[..., Checkpoint], plain: Any, scheme: Scheme, way: str, tmp_path: Path
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    folder, blocks = checkpoint(scheme).folder, WAYS[way]
    found: dict[str, dict[str, torch.Tensor]] = {}

    def keep(name: str) -> Any:
        return lambda task, trainer: found.update({name: gradients(task, trainer)})

    quantized = loaded(folder, scheme)
    other = in_the_order_of(_plain_model(plain(scheme), **blocks), quantized.model)
    recipe = recipe_for(folder, scheme, **blocks)
    _, one = trained(recipe, quantized, tmp_path / "gptq", keep("gptq"))
    recipe = recipe_for(plain(scheme), None, **blocks)
    _, two = trained(recipe, other, tmp_path / "plain", keep("plain"))
    assert largest_difference(found["gptq"], found["plain"]) < GRADIENTS
    assert all(bool(gradient.any()) for gradient in found["gptq"].values())
    # And so the adapters that came of them, after six steps.
    adapters = [load_file(str(run.adapter / WEIGHTS)) for run in (one, two)]
    assert largest_difference(*adapters) < 10 * GRADIENTS
    assert bound_to(one.adapter / WEIGHTS) != bound_to(two.adapter / WEIGHTS)


def test_a_dequantization_off_by_one_shows_in_the_gradients(
    checkpoint: Callable[..., Checkpoint], plain: Any, tmp_path: Path
) -> None:
    """The planted error: one zero point of one group."""
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    scheme = Scheme()
    folder = checkpoint(scheme).folder
    found: list[dict[str, torch.Tensor]] = []
    wrong = loaded(folder, scheme)
    wrong.model.model.layers[0].self_attn.v_proj.qzeros[0, 0] += 1
    for base in (loaded(folder, scheme), wrong):
        trained(
            recipe_for(folder, scheme), base, tmp_path / str(len(found)),
            lambda task, trainer: found.append(gradients(task, trainer)),
        )  # fmt: skip
    assert largest_difference(found[1], found[0]) > 10 * GRADIENTS


def test_a_saved_adapter_gives_the_same_logits_on_the_checkpoint_loaded_anew(
    checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme(sym=False))
    seen: list[Any] = []
    _, run = trained(
        recipe_for(made.folder, made.scheme), loaded(made.folder, made.scheme), tmp_path / "run",
        lambda task, _: seen.append(logits(task.model.eval())),
    )  # fmt: skip
    anew = loaded(made.folder, made.scheme).model
    base = logits(anew)
    again = logits(load_adapter(anew, run.adapter))
    assert relative_error(again, seen[0]) < 1e-5
    assert relative_error(again, base) > 1e-3


# The whole path


def proofbox(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip


def _document(base: Path, scheme: Scheme) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "gptq",
        "dataset": {
            "source": "rows.json",
            "partition": {"by": "position", "train": 0.5, "validation": 0.1, "test": 0.4},
        },
        "model": {"base": str(base)},
        "quantization": quantization_block(scheme),
        "lora": {**LORA, "variant": "rslora"},
        "training": {**STEPS, "optimizer": "adamw", "learning_rate": 0.005, "max_steps": 20},
        "evaluation": {
            "loss": ["test"],
            "generation": [
                {"name": "answers", "limit": 2, "decoding": {"max_new_tokens": 4},
                 "metrics": ["exact_match"]}
            ],
        },
        "gates": [{"metric": "test.loss", "claim": "superior", "margin": 0.05}],
        "hardware": {"device": "cpu", "threads": 1, "activation_checkpointing": True},
    }  # fmt: skip


@pytest.fixture(scope="module")
def project(
    checkpoint: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A recipe over a classical checkpoint whose configuration still has its calibration texts."""
    folder = tmp_path_factory.mktemp("gptq-project")
    scheme = Scheme(desc_act=True, group_size=64)
    shutil.copytree(checkpoint(scheme).folder, folder / "base")
    config = read_json(folder / "base" / "config.json")
    config["quantization_config"]["dataset"] = [SECRET]
    (folder / "base" / "config.json").write_text(json.dumps(config))
    rows = [{"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"} for n in range(60)]
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "gptq.json").write_text(json.dumps(_document(folder / "base", scheme)))
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> RunFolder:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    before = {path.name: path.read_bytes() for path in (project / "base").iterdir()}
    done = proofbox("run", project / "gptq.json", "--runs", project / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name: path.read_bytes() for path in (project / "base").iterdir()} == before
    return open_run(project / "runs" / "gptq")


def test_a_run_on_a_classical_checkpoint_ends_in_a_release(run: RunFolder) -> None:
    assert read_json(run.verdict)["verdict"] == "PASS"
    training = read_json(run.training)
    assert training["dtype"] == "float32"
    assert len(training["target_modules"]) == 14
    assert read_json(run.reload)["largest_logit_difference"] < 1e-5
    assert "quantization.kernel: auto is torch" in read_json(run.lock)["decisions"]


def test_t2_nothing_of_the_base_is_saved_again(run: RunFolder) -> None:
    held = {name for file in run.path.rglob("*.safetensors") for name in load_file(str(file))}
    assert held
    assert not {name for name in held if name.endswith(("qweight", "qzeros", "scales", "g_idx"))}


def test_t4_no_calibration_text_of_the_base_gets_into_a_run(run: RunFolder, project: Path) -> None:
    assert SECRET.encode() in (project / "base" / "config.json").read_bytes()
    told = [p for p in run.path.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert told == []


def test_the_adapter_is_bound_to_the_quantized_weights(run: RunFolder, project: Path) -> None:
    scheme = Scheme(desc_act=True, group_size=64)
    block = Quantization.model_validate(quantization_block(scheme))
    own = weights_digest(local_model("base", project / "base"), block)
    assert bound_to(run.adapter / WEIGHTS) == own
    assert bound_to(run.release / WEIGHTS) == own


def test_the_adapter_is_refused_on_the_plain_weights(
    run: RunFolder, project: Path, plain: Any, tmp_path: Path
) -> None:
    """Even on the very same weights multiplied out: they are other files, and rounded otherwise."""
    base = plain(Scheme(desc_act=True, group_size=64))
    document = {**_document(base, Scheme()), "quantization": {"method": "none"}}
    (project / "other.json").write_text(json.dumps(document))
    command = ("eval", run.release, "--recipe", project / "other.json", "--runs", tmp_path / "runs")
    refused = proofbox(*command)
    assert refused.returncode == ExitCode.RECIPE, refused.stderr
    assert "was trained on other base weights" in refused.stderr
    assert "--other-base" in refused.stderr


def test_t6_merged_into_the_plain_weights_it_is_judged_again(
    run: RunFolder, project: Path, plain: Any, tmp_path: Path
) -> None:
    """What is offered in place of merging into a quantized base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = plain(Scheme(desc_act=True, group_size=64))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(run.release)).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "merged")
    judged = proofbox(
        "eval", tmp_path / "merged", "--recipe", project / "gptq.json", "--runs", tmp_path / "runs"
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
    (folder,) = (tmp_path / "runs" / "gptq").glob("eval-*")
    losses = [
        next(m["value"] for m in read_json(path)["measurements"]
             if (m["subject"], m["metric"]) == ("adapter", "test.loss"))
        for path in (folder / "evidence.json", run.evidence)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# Variants


@pytest.mark.parametrize("variant", ["dora", "pissa"])
def test_a_variant_that_needs_the_plain_weights_is_refused(
    project: Path, variant: str, tmp_path: Path
) -> None:
    document = _document(project / "base", Scheme())
    path = project / f"{variant}.json"
    path.write_text(json.dumps({**document, "lora": {**LORA, "variant": variant}}))
    refused = proofbox("validate", path)
    assert refused.returncode == ExitCode.RECIPE
    assert "lora.variant" in refused.stdout + refused.stderr


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora"])
def test_nf4_trains_after_an_evaluation(
    wide_model_folder: Path, variant: str, tmp_path: Path
) -> None:
    """Where DoRA is allowed on a quantized base; bitsandbytes has trap T1 too."""
    pytest.importorskip("bitsandbytes", reason="needs the extra bitsandbytes")
    from runner.base_model.loaded_model import load_model

    blocks = {
        "quantization": {"method": "bitsandbytes", "bits": 4},
        "lora": {**LORA, "variant": variant},
    }
    recipe = recipe_for(wide_model_folder, Scheme(), **blocks)
    source = local_model("wide", wide_model_folder)
    base = load_model(recipe, source, device="cpu")
    logits(base.model)
    seen: list[Any] = []
    _, folder = trained(
        recipe, base, tmp_path / "run", lambda task, _: seen.append(logits(task.model.eval()))
    )
    anew = load_model(recipe, source, device="cpu").model
    assert relative_error(logits(load_adapter(anew, folder.adapter)), seen[0]) < 1e-5
