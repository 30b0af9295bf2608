"""``proofbox quantize``: a standard checkpoint, the same bytes every time, whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli import guarded
from runner.commands.quantize import quantize
from runner.errors import ExitCode
from tests.conftest import ROOT

Write = Callable[..., Path]
GPTQ = {"method": "gptq", "bits": 4, "group_size": 32, "calibration": {"examples": 12}}


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any], write_recipe: Write) -> Path:
    return write_recipe({**tiny_recipe, "quantization": GPTQ})


def told(capsys: pytest.CaptureFixture[str], recipe: Path, out: Path | None) -> str:
    code = guarded(lambda: quantize(str(recipe), out=out, device=None))
    assert code == ExitCode.RECIPE
    return capsys.readouterr().err


def test_a_recipe_that_quantizes_nothing_is_refused(
    tiny_recipe: dict[str, Any], write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    message = told(capsys, write_recipe(tiny_recipe), None)
    assert "is not to be quantized with gptq: there is nothing to make" in message
    assert "quantization: {method: gptq, bits: 4}" in message


def test_a_folder_that_is_there_is_not_overwritten(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert "this is there already" in told(capsys, recipe, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# With gptqmodel


@pytest.fixture
def gptqmodel() -> None:
    pytest.importorskip("gptqmodel", reason="the extra gptq is not installed")
    pytest.importorskip("optimum", reason="the extra gptq is not installed")


def start(recipe: Path, cache: Path, out: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, with a cache of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "quantize", str(recipe), "--out", str(out)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PROOFBOX_CACHE": str(cache)},
    )  # fmt: skip


def made(recipe: Path, cache: Path, out: Path) -> dict[str, bytes]:
    """The files of the checkpoint by name."""
    process = start(recipe, cache, out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def undisturbed(gptqmodel: None, recipe: Path, tmp_path: Path) -> dict[str, bytes]:
    del gptqmodel
    return made(recipe, tmp_path / "cache", tmp_path / "undisturbed")


def test_the_checkpoint_is_a_standard_one(
    undisturbed: dict[str, bytes], tmp_path: Path, tiny_model_folder: Path
) -> None:
    names = {path.name for path in tiny_model_folder.iterdir()}
    assert set(undisturbed) == {*names, "quantize_config.json"}
    config = json.loads(undisturbed["config.json"])
    for settings in (
        config["quantization_config"],
        json.loads(undisturbed["quantize_config.json"]),
    ):
        assert (settings["bits"], settings["group_size"], settings["sym"]) == (4, 32, True)
        assert (settings["quant_method"], settings["checkpoint_format"]) == ("gptq", "gptq")
    # Neither texts of the data nor places of this machine are in it.
    for name in set(undisturbed) - {"model.safetensors"}:
        text = undisturbed[name].decode()
        assert "Add " not in text
        assert str(tmp_path) not in text
        assert "/tmp" not in text


@pytest.mark.slow
def test_transformers_and_gptqmodel_load_it_alike(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    del undisturbed
    folder = tmp_path / "undisturbed"
    program = (
        "import sys, torch\n"
        "from gptqmodel import GPTQModel\n"
        "from transformers import AutoModelForCausalLM, GPTQConfig\n"
        "ids = torch.arange(3, 33)[None]\n"
        "one = GPTQModel.load(sys.argv[1], backend='gptq_torch', device='cpu', "
        "dtype=torch.float16).model(ids).logits\n"
        "other = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float16, "
        "quantization_config=GPTQConfig(bits=4, backend='gptq_torch'))(ids).logits\n"
        "sys.exit(0 if (one - other).norm() <= 1e-2 * other.norm() else 'they differ')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_same_input_gives_the_same_bytes(
    undisturbed: dict[str, bytes], recipe: Path, tmp_path: Path
) -> None:
    again = made(recipe, tmp_path / "other-cache", tmp_path / "again")
    assert {name: again[name] == undisturbed[name] for name in undisturbed} == dict.fromkeys(
        undisturbed, True
    )


# What has just begun, as a pattern in the cache's folder of quantized bases.
MOMENTS = {
    "quantizing": ".*/entry/.quantizing-*/job.json",
    "the library at work": ".*/entry/.quantizing-*/logs/*",
    "saving": ".*/entry/checkpoint/*",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_it_leaves_nothing_and_run_again_it_is_the_same(
    moment: str, undisturbed: dict[str, bytes], recipe: Path, tmp_path: Path
) -> None:
    cache, out = tmp_path / "killed-cache", tmp_path / "killed"
    process = start(recipe, cache, out)
    place = cache / "quantized"
    wait_for(lambda: any(place.glob(MOMENTS[moment])), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    assert [path for path in place.iterdir() if not path.name.startswith(".")] == []
    left = list(place.iterdir())
    assert len(left) == 1
    again = made(recipe, cache, out)
    assert {name: again[name] == undisturbed[name] for name in undisturbed} == dict.fromkeys(
        undisturbed, True
    )
    assert not left[0].exists()


def wait_for(begun: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not begun():
        assert process.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PROOFBOX_CACHE", str(tmp_path / "cache-of-this-process"))
    yield
