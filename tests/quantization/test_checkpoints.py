"""Checkpoints that exist already: auto-gptq's classical format and gptq_v2 load as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from runner.base_model.gptq_checkpoint import (
    check_zero_points,
    checkpoint_settings,
    complete_config,
)
from runner.base_model.model_source import local_model
from runner.errors import MachineError
from tests.quantization.classical_gptq import (
    IntegerLinear,
    Scheme,
    packed,
    random_linear,
    write_checkpoint,
)
from tests.quantization.conftest import NEEDS_GPTQ, Checkpoint
from tests.quantization.float64_mistral import reference_logits, reference_weights
from tests.quantization.loading import IDS, expected_logits, loaded, logits, relative_error

ALLOWED = 1e-3  # of the largest logit; float32 was seen to make 2e-6
SCHEMES = [
    Scheme(bits=bits, group_size=size, desc_act=order, sym=sym, format=kind)
    for bits, size, order, sym, kind in (
        *product((4,), (32, 64, 128, -1), (False, True), (True, False), ("gptq", "gptq_v2")),
        *product((8,), (32, 128), (False, True), (True, False), ("gptq", "gptq_v2")),
        *product((2,), (64,), (False, True), (True, False), ("gptq", "gptq_v2")),
    )
]


def _name(scheme: Scheme) -> str:
    order, sym = "desc_act" if scheme.desc_act else "in-order", "sym" if scheme.sym else "asym"
    return f"{scheme.bits}bit-{scheme.group_size}g-{order}-{sym}-{scheme.format}"


# The instruments themselves, without gptqmodel


def test_words_are_packed_from_their_lowest_bits() -> None:
    values = np.arange(16, dtype=np.int64).reshape(16, 1) % 16
    words = packed(values, 4).view(np.uint32)
    assert [f"{word:08x}" for word in words[:, 0]] == ["76543210", "fedcba98"]
    assert f"{packed(np.array([[1], [2], [3], [255]]), 8).view(np.uint32)[0, 0]:08x}" == "ff030201"
    with pytest.raises(ValueError, match="-1 to 3 do not fit 4 bits"):
        packed(np.array([[-1], [3]]), 4)


def test_zero_points_are_stored_minus_one_in_the_classical_format() -> None:
    module = random_linear(np.random.default_rng(0), (64, 32), Scheme())
    classical = module.tensors(Scheme())["qzeros"].view(np.uint32)
    second = module.tensors(Scheme(format="gptq_v2"))["qzeros"].view(np.uint32)
    assert classical.shape == second.shape == (2, 4)
    assert (classical == 0x77777777).all()
    assert (second == 0x88888888).all()


def test_the_reference_is_mistral(wide_model_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(wide_model_folder, dtype=torch.float64)
    own = reference_logits(wide_model_folder, reference_weights(wide_model_folder, {}), IDS)
    assert relative_error(own, logits(model)) < 1e-6  # transformers turns positions in float32


def test_a_checkpoint_is_recognised(checkpoint: Callable[..., Checkpoint]) -> None:
    for given in ({}, {"in_config": False}, {"weights_file": "gptq_model-4bit-32g.safetensors"}):
        source = local_model("made", checkpoint(Scheme(), **given).folder)
        assert (source.quantization, source.quantization_bits) == ("gptq", 4)


def test_damaged_settings_are_told(own_checkpoint: Checkpoint) -> None:
    (own_checkpoint.folder / "quantize_config.json").write_text("{")
    with pytest.raises(MachineError, match=r"quantize_config\.json is damaged"):
        checkpoint_settings(own_checkpoint.folder, {})


def test_weights_under_two_names_are_refused(own_checkpoint: Checkpoint) -> None:
    from transformers import AutoConfig

    folder = own_checkpoint.folder
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    config = complete_config(AutoConfig.from_pretrained(folder), folder)
    assert config.transformers_weights == "a.safetensors"
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    with pytest.raises(MachineError, match=r"a\.safetensors, b\.safetensors, and nothing says"):
        complete_config(AutoConfig.from_pretrained(folder), folder)


def _with_zero_point_of_none(plain: Path, folder: Path, scheme: Scheme) -> dict[str, Any]:
    """A checkpoint in which one zero point is stored as the highest value."""
    linears = write_checkpoint(plain, folder, scheme)
    path = "model.layers.1.mlp.up_proj"
    zeros = linears[path].zeros.copy()
    zeros[0, 3] = 0
    # As auto-gptq's kernels on a CPU read it: a stored 15 is 16 & 15 = 0.
    words = load_file(folder / "model.safetensors")
    stored = words[f"{path}.qzeros"].view(np.uint32)
    stored[0, 0] |= np.uint32(0xF << 12)
    words[f"{path}.qzeros"] = stored.view(np.int32)
    from safetensors.numpy import save_file

    save_file(words, folder / "model.safetensors", metadata={"format": "pt"})
    return {**linears, path: replace(linears[path], zeros=zeros)}


def test_zero_points_that_programs_read_differently_are_refused(
    wide_model_folder: Path, tmp_path: Path
) -> None:
    scheme = Scheme(sym=False)
    _with_zero_point_of_none(wide_model_folder, tmp_path / "made", scheme)
    with pytest.raises(MachineError, match=r"layers\.1\.mlp\.up_proj\.qzeros holds zero points"):
        check_zero_points(tmp_path / "made", scheme.settings())
    own = {**scheme.settings(), "meta": {"quantizer": ["gptqmodel:7.6.0"]}}
    check_zero_points(tmp_path / "made", own)
    check_zero_points(tmp_path / "made", {**scheme.settings(), "checkpoint_format": "gptq_v2"})


# With it


@pytest.mark.parametrize("scheme", SCHEMES, ids=_name)
def test_logits_are_those_of_the_integers(
    checkpoint: Callable[..., Checkpoint], scheme: Scheme
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(scheme)
    model = loaded(made.folder, scheme).model
    assert type(model.model.layers[0].self_attn.q_proj).__name__ == "TorchLinear"
    wanted = expected_logits(made.folder, made.linears)
    assert relative_error(logits(model), wanted) < ALLOWED
    model.train()  # gptqmodel takes another way then
    assert relative_error(logits(model), wanted) < ALLOWED


@pytest.mark.parametrize(
    "given", [{"in_config": False}, {"weights_file": "gptq_model-4bit-32g.safetensors"}]
)
def test_older_layouts_of_the_folder_load(
    checkpoint: Callable[..., Checkpoint], given: dict[str, Any]
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme(), **given)
    wanted = expected_logits(made.folder, made.linears)
    assert relative_error(logits(loaded(made.folder, Scheme()).model), wanted) < ALLOWED


def _one_higher(linear: IntegerLinear) -> IntegerLinear:
    return replace(linear, zeros=linear.zeros + 1)


@pytest.mark.parametrize("kind", ["gptq", "gptq_v2"])
def test_zero_points_off_by_one_are_seen(checkpoint: Callable[..., Checkpoint], kind: Any) -> None:
    """The planted error: a reader that takes the one format for the other."""
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme(format=kind))
    found = logits(loaded(made.folder, made.scheme).model)
    for path, linear in made.linears.items():
        off = expected_logits(made.folder, {**made.linears, path: _one_higher(linear)})
        assert relative_error(found, off) > 10 * ALLOWED, path


@pytest.mark.parametrize("label", ["gptq", "gptq_v2"])
def test_a_wrong_label_is_seen(own_checkpoint: Checkpoint, label: str) -> None:
    """The same file labelled as the other format is another model."""
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    file = own_checkpoint.folder / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"]["checkpoint_format"] = label
    file.write_text(json.dumps(config))
    found = logits(loaded(own_checkpoint.folder, own_checkpoint.scheme).model)
    wanted = expected_logits(own_checkpoint.folder, own_checkpoint.linears)
    assert (relative_error(found, wanted) < ALLOWED) == (label == "gptq")


def test_a_group_taken_for_another_is_seen(checkpoint: Callable[..., Checkpoint]) -> None:
    """`desc_act`: a reader that takes groups in order, as many once did."""
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme(desc_act=True))
    found = logits(loaded(made.folder, made.scheme).model)
    in_order = {
        path: replace(one, groups=np.sort(one.groups)) for path, one in made.linears.items()
    }
    assert relative_error(found, expected_logits(made.folder, in_order)) > 10 * ALLOWED


def test_half_precision_scales_are_not_exact(checkpoint: Callable[..., Checkpoint]) -> None:
    """Why scales are widened in a float32 model: as gptqmodel leaves them, weights are rounded."""
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme(sym=False))
    model = loaded(made.folder, made.scheme).model
    wanted = expected_logits(made.folder, made.linears)
    exact = relative_error(logits(model), wanted)
    for module in model.modules():
        if hasattr(module, "qzeros"):
            module.scales = module.scales.half()
    assert exact < 1e-5
    assert relative_error(logits(model), wanted) > 1e-4
