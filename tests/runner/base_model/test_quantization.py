"""The registry of quantization methods, and what is refused by it before anything is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from runner.base_model.checkpoint_settings import bits_of
from runner.base_model.loaded_model import check_base, model_skeleton
from runner.base_model.model_source import ModelSource, find_model
from runner.base_model.quantization import (
    METHODS,
    check_quantization,
    loading_arguments,
    method_named,
)
from runner.base_model.quantization.bitsandbytes import never_pack
from runner.base_model.quantization.checks import REFUSED
from runner.base_model.quantization.method import DTYPES, VARIANTS
from runner.base_model.quantization.stored_bytes import bits_per_weight, stored_bytes
from runner.errors import MachineError, UsageError
from runner.recipe import Quantization, Recipe
from tests.conftest import ROOT

Own = Callable[..., ModelSource]


@pytest.fixture(scope="module")
def plain(tiny_model_folder: Path) -> ModelSource:
    return find_model(str(tiny_model_folder), None, folder=Path("/"))


@pytest.fixture
def own(tiny_model_folder: Path, tmp_path: Path) -> Own:
    """A base model whose configuration says these settings of itself."""

    def make(**settings: Any) -> ModelSource:
        folder = shutil.copytree(tiny_model_folder, tmp_path / "own", dirs_exist_ok=True)
        config = json.loads((tiny_model_folder / "config.json").read_text())
        config["quantization_config"] = settings
        (folder / "config.json").write_text(json.dumps(config))
        return find_model(str(folder), None, folder=Path("/"))

    return make


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.base_model.quantization.checks.require_packages", lambda _: None)


def block(method: str, bits: int | None = None, **more: Any) -> Quantization:
    return Quantization.model_validate({"method": method, "bits": bits, **more})


# The registry


def test_every_method_of_a_recipe_is_in_the_registry() -> None:
    assert tuple(METHODS) == get_args(Quantization.model_fields["method"].annotation)
    assert [method_named(name).name for name in METHODS] == list(METHODS)


def test_every_bits_of_a_recipe_is_some_method_s() -> None:
    known = {bits for name in METHODS for bits in method_named(name).storages}
    literal, _ = get_args(Quantization.model_fields["bits"].annotation)
    assert known == {0, *get_args(literal)}


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_says_only_what_there_is(name: str) -> None:
    method = method_named(name)
    assert set(method.options) <= set(Quantization.model_fields) - {"method"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = " ".join(extras["optional-dependencies"].get(method.extra, []))
    assert all(package in extra for package in method.packages)
    assert bool(method.packages) == bool(method.extra)
    for storage in method.storages.values():
        assert storage.dtypes.keys() == storage.kernels.keys()
        assert {dtype for each in storage.dtypes.values() for dtype in each} <= set(DTYPES)
        assert set(storage.variants) <= set(VARIANTS)
        assert bool(storage.variants) != bool(storage.untrainable)
        assert storage.merges == (name == "none")


def test_reading_the_registry_imports_no_package() -> None:
    """`validate` reads it, in less than a second."""
    program = (
        "import sys\n"
        "from runner.base_model.quantization import METHODS, method_named\n"
        "[method_named(name) for name in METHODS]\n"
        "print([n for n in ('torch', 'transformers', 'gptqmodel', 'torchao') if n in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_a_missing_package_is_told_with_its_command(
    name: str, plain: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.base_model.quantization.registry.find_spec", lambda _: None)
    with pytest.raises(MachineError) as raised:
        check_quantization(block(name, 8), plain)
    method = method_named(name)
    told = str(raised.value)
    assert told.startswith(f"{', '.join(method.packages)} not installed. ")
    assert told.endswith(f"pip install 'proofbox[{method.extra}]'")


# Machine


def test_what_torchao_cannot_train_is_refused(plain: ModelSource, installed: None) -> None:
    with pytest.raises(UsageError, match=r"train on its 8 bits alone, and 4 need a GPU. Write 8"):
        check_quantization(block("torchao", 4), plain, device="cpu", dtype="bfloat16")


def test_three_bits_are_refused(own: Own, installed: None) -> None:
    with pytest.raises(UsageError, match=r"bits: 3: triton.*Write 2, 4 or 8"):
        check_quantization(block("gptq", 3), own(quant_method="gptq", bits=3))


def test_a_dtype_is_refused_where_no_kernel_has_it(plain: ModelSource, installed: None) -> None:
    check_quantization(block("gptq", 4), plain, device="cpu", dtype="float32")
    with pytest.raises(UsageError, match=r"does not compute in float32 on cuda.*bfloat16 or float"):
        check_quantization(block("gptq", 4), plain, device="cuda", dtype="float32")


def test_the_dtype_of_a_run_is_what_is_checked(
    tiny_recipe: dict[str, Any], plain: ModelSource, installed: None
) -> None:
    """`auto` on a GPU is the checkpoint's own type, here float32."""
    tiny_recipe |= {"quantization": {"method": "gptq", "bits": 4}}
    tiny_recipe["model"]["dtype"] = "auto"
    recipe = Recipe.model_validate(tiny_recipe)
    check_base(recipe, plain, "cpu")
    with pytest.raises(UsageError, match="does not compute in float32 on cuda"):
        check_base(recipe, plain, "cuda")


# A base model that is quantized already


def test_a_full_precision_base_goes_with_every_method(plain: ModelSource, installed: None) -> None:
    for name in METHODS:
        check_quantization(block(name, None if name == "none" else 8), plain)


@pytest.mark.parametrize("name", [*REFUSED, "of-tomorrow"])
def test_other_methods_are_refused_by_name(name: str, own: Own) -> None:
    for wanted in (block("none"), block("gptq", 4)):
        with pytest.raises(UsageError, match=f"is quantized with {name}, which proofbox does not"):
            check_quantization(wanted, own(quant_method=name, bits=4))


@pytest.mark.parametrize("wanted", [block("none"), block("bitsandbytes", 4)])
def test_another_method_than_the_checkpoint_s(wanted: Quantization, own: Own) -> None:
    with pytest.raises(UsageError, match=r"Write `quantization: \{method: gptq, bits: 4\}`"):
        check_quantization(wanted, own(quant_method="gptq", bits=4))


@pytest.mark.parametrize(
    ("key", "written", "stored"),
    [("bits", 8, 4), ("group_size", 128, 32), ("desc_act", False, True), ("sym", True, False)],
)
def test_what_is_written_must_be_the_checkpoint_s(
    key: str, written: Any, stored: Any, own: Own, installed: None
) -> None:
    """Also where it is the default: somebody wrote it."""
    source = own(**{"quant_method": "gptq", "bits": 4, key: stored})
    wanted = block("gptq", **{"bits": 4, key: written})
    shown = str(stored).lower()
    with pytest.raises(UsageError, match=rf"quantization.{key}: .*Write {shown}"):
        check_quantization(wanted, source)
    check_quantization(block("gptq", **{"bits": 4, key: stored}), source)


def test_what_is_not_written_is_the_checkpoint_s(own: Own, installed: None) -> None:
    settings = {"bits": 4, "group_size": 1024, "desc_act": True, "sym": False}
    check_quantization(block("gptq", 4), own(quant_method="gptq", **settings))


@pytest.mark.parametrize("written", [{"calibration": {}}, {"damp": 0.05}])
def test_a_checkpoint_is_not_quantized_again(
    written: dict[str, Any], own: Own, installed: None
) -> None:
    with pytest.raises(UsageError, match="is quantized already, so this has no effect"):
        check_quantization(block("gptq", 4, **written), own(quant_method="gptq", bits=4))


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"checkpoint_format": "gptq"}, True),
        ({"checkpoint_format": "gptq_v2"}, True),
        ({"format": "gptq_v2"}, True),
        ({}, True),
        ({"checkpoint_format": "marlin"}, False),
        ({"is_marlin_format": True}, False),
    ],
)
def test_layouts_for_inference_are_refused(
    settings: dict[str, Any], allowed: bool, own: Own, installed: None
) -> None:
    source = own(quant_method="gptq", bits=4, **settings)
    if allowed:
        check_quantization(block("gptq", 4), source)
        return
    with pytest.raises(UsageError, match="in the format marlin, a layout for one inference kernel"):
        check_quantization(block("gptq", 4), source)


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({"bits": 4}, 4),
        ({"load_in_4bit": True, "load_in_8bit": False}, 4),
        ({"load_in_4bit": False, "load_in_8bit": True}, 8),
        ({"quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}}}}, 8),
        ({"quant_type": "int4_weight_only"}, 4),
        ({}, None),
    ],
)
def test_bits_are_read_as_each_library_writes_them(
    settings: dict[str, Any], bits: int | None
) -> None:
    assert bits_of(settings) == bits


def test_a_base_without_settings_is_not_quantized(plain: ModelSource) -> None:
    assert (plain.quantization, plain.quantization_bits) == (None, None)
    assert replace(plain, quantization_settings={}) == plain


@pytest.mark.parametrize(
    ("wanted", "bits"),
    [
        (block("gptq", 4, group_size=32), 4.625),
        (block("gptq", 4, group_size=-1), 4.0),
        (block("bitsandbytes", 4), 4.126953125),
        (block("torchao", 8), 8.0),
    ],
)
def test_a_weight_takes_its_share_of_the_scales(wanted: Quantization, bits: float) -> None:
    assert bits_per_weight(wanted) == bits


def test_the_forecast_counts_the_linear_modules_apart(
    tiny_recipe: dict[str, Any], plain: ModelSource
) -> None:
    import torch

    skeleton = model_skeleton(Recipe.model_validate(tiny_recipe), plain)
    whole = stored_bytes(block("none"), plain, skeleton, torch.float32)
    eight = stored_bytes(block("torchao", 8), plain, skeleton, torch.float32)
    linear = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)  # two layers
    assert whole is None
    assert eight == 4 * (plain.parameters - linear) + linear


# Loading


@pytest.mark.parametrize(("device", "kernel"), [("cpu", "torch"), ("cuda", "triton")])
def test_the_gptq_kernel_is_always_named(device: str, kernel: str) -> None:
    """T1: the default one packs for inference."""
    config = loading_arguments(block("gptq", 4), device)["quantization_config"]
    assert config.backend == f"gptq_{kernel}"


def test_bitsandbytes_is_nf4_with_double_quantization() -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra bitsandbytes")
    import torch

    given = loading_arguments(block("bitsandbytes", 4), "cpu", "float16")
    config = given["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert (config.bnb_4bit_use_double_quant, config.bnb_4bit_compute_dtype) == (
        True,
        torch.float16,
    )
    assert given["device_map"] == {"": "cpu"}  # else transformers takes a GPU where there is one
    assert loading_arguments(block("bitsandbytes", 8), "cpu")["quantization_config"].load_in_8bit


class Linear4bit:
    """As bitsandbytes 0.50 has it."""

    def __init__(self) -> None:
        self.support_avx512bf16_for_cpu = True


def test_nf4_modules_are_forbidden_to_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [("a", Linear4bit()), ("b", object())]
    library = SimpleNamespace(nn=SimpleNamespace(Linear4bit=Linear4bit), __version__="1.0")
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    model: Any = SimpleNamespace(named_modules=lambda: iter(modules))
    never_pack(model)
    packing: Any = modules[0][1]
    assert packing.support_avx512bf16_for_cpu is False
    del packing.support_avx512bf16_for_cpu
    with pytest.raises(MachineError, match=r"bitsandbytes 1.0: a has no support_avx512bf16_for_"):
        never_pack(model)


# The page


def test_the_page_s_tables_are_made_from_the_registry() -> None:
    program = (
        "import runpy, sys\n"
        "made = runpy.run_path('docs/make_quantization.py')\n"
        "page = made['TARGET'].read_text('utf-8')\n"
        "sys.stdout.write(made['quantization_markdown'](page))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    assert ended.stdout == page
    rows = [line for line in page.splitlines() if line.count("|") == 9]
    combinations = sum(len(method_named(name).storages) for name in METHODS) * 2 * len(DTYPES)
    assert len(rows) == combinations + 2  # its head
