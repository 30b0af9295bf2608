"""What is refused before processes start, and what is said of those that fail."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ExitCode, MachineError, ProofboxError, UsageError
from runner.recipe import Recipe
from runner.training.devices import Devices, check_devices, check_layers
from runner.training.launching import cause_of, launch_ranks, leave_error
from runner.training.ranks import Ranks, digest_of_tensors

TWO = Devices(count=2)
SHARDED = Devices(count=2, strategy="fsdp")


@pytest.mark.parametrize(
    ("devices", "change", "message"),
    [
        (Devices(count=5), {}, "training.batch_size is 4, so 1 of them would have no example"),
        (Devices(count=2, strategy="ddp"), {}, None),
        (Devices(strategy="fsdp"), {}, "add --devices N"),
        (SHARDED, {}, None),
        (SHARDED, {"lora": {"variant": "dora"}}, "lora.variant: dora starts from whole ones"),
        (SHARDED, {"lora": {"bias": "all"}}, "lora.bias: all changes some of them"),
        (SHARDED, {"lora": {"modules_to_save": ["lm_head"]}}, "lora.modules_to_save changes"),
        (SHARDED, {"lora": {"trained_tokens": ["<s>"]}}, "lora.trained_tokens changes"),
        (
            SHARDED,
            {"quantization": {"method": "gptq", "bits": 4}, "model": {"dtype": "float16"}},
            "quantization.method: gptq has packed weights",
        ),
        (TWO, {"lora": {"variant": "dora"}}, None),
    ],
)
def test_what_cannot_be_is_refused(
    devices: Devices, change: dict[str, Any], message: str | None, tiny_recipe: dict[str, Any]
) -> None:
    for block, values in change.items():
        tiny_recipe.setdefault(block, {}).update(values)
    recipe = Recipe.model_validate(tiny_recipe)
    if message is None:
        check_devices(devices, recipe, "cpu")
        return
    with pytest.raises(UsageError, match=message):
        check_devices(devices, recipe, "cpu")


def test_more_devices_than_there_are(
    tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with pytest.raises(MachineError, match="there are 1 CPU cores for this process"):
        check_devices(TWO, Recipe.model_validate(tiny_recipe), "cpu")


def test_an_architecture_with_other_layers_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    other = GPT2LMHeadModel(GPT2Config(n_embd=8, n_head=1, n_layer=1, vocab_size=8))
    check_layers(TWO, other)
    with pytest.raises(UsageError, match="weights of GPT2LMHeadModel"):
        check_layers(SHARDED, other)


def test_digests_see_names_types_and_values() -> None:
    import torch

    one = torch.ones(2, 3)
    digests = {
        digest_of_tensors(tensors)
        for tensors in (
            {"a": one},
            {"b": one},
            {"a": one.bfloat16()},
            {"a": one + 1e-6},
            {"a": one, "b": one},
        )
    }
    assert len(digests) == 5
    assert digest_of_tensors({"a": one, "b": -one}) == digest_of_tensors({"b": -one, "a": one})


def test_processes_that_differ_are_told_apart() -> None:
    class Differing(Ranks):
        def of_all(self, value: Any) -> list[Any]:
            return [value, value, "other"] if value == "changed" else [value] * 3

    ranks = Differing(count=3)
    ranks.check_same({"the rows": "the same"})
    with pytest.raises(MachineError, match="the adapter: not the same in process 2 as in process"):
        ranks.check_same({"the rows": "the same", "the adapter": "changed"})


# What is said of processes that fail


def test_the_first_error_is_the_cause(tmp_path: Path) -> None:
    leave_error(tmp_path, 0, "connection closed", ExitCode.DEFECT, 2.0)
    leave_error(tmp_path, 1, "no rows", ExitCode.ENVIRONMENT, 1.0)
    cause = cause_of({0: ExitCode.DEFECT, 1: ExitCode.ENVIRONMENT}, tmp_path)
    assert (str(cause), cause.exit_code) == ("no rows", ExitCode.ENVIRONMENT)


def test_a_kill_explains_what_others_cannot(tmp_path: Path) -> None:
    leave_error(tmp_path, 0, "connection closed", ExitCode.DEFECT, 2.0)
    cause = cause_of({0: ExitCode.DEFECT, 1: -signal.SIGKILL}, tmp_path)
    assert "training process 1 was killed by signal 9" in str(cause)


def test_an_explained_error_comes_before_a_kill(tmp_path: Path) -> None:
    """What fails at once may leave others in a state that only a kill ends."""
    leave_error(tmp_path, 0, "the loss is nan", ExitCode.ENVIRONMENT, 2.0)
    cause = cause_of({0: ExitCode.ENVIRONMENT, 1: -signal.SIGKILL}, tmp_path)
    assert str(cause) == "the loss is nan"


@pytest.mark.parametrize(
    ("code", "message"), [(-signal.SIGABRT, "killed by signal 6"), (9, "ended with exit code 9")]
)
def test_a_process_that_says_nothing(code: int, message: str, tmp_path: Path) -> None:
    cause = cause_of({0: -signal.SIGTERM, 1: code}, tmp_path)
    assert message in str(cause)
    assert "training process 1" in str(cause)


# Processes that are really started

_TOLD = """
import json, os, pathlib, sys, time
place = pathlib.Path(sys.argv[sys.argv.index("--errors") + 1])
rank = os.environ["RANK"]
"""


def test_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    code = _TOLD + (
        f"pathlib.Path({str(tmp_path)!r}, rank).write_text(str(os.getpid()))\n"
        f"while len(os.listdir({str(tmp_path)!r})) < 2: time.sleep(0.01)\n"
        "if rank == '1':\n"
        "    said = {'message': 'rows differ', 'code': 4, 'seconds': 1.0}\n"
        "    (place / 'rank-1.json').write_text(json.dumps(said))\n"
        "    sys.exit(4)\n"
        "time.sleep(60)\n"
    )
    scratch = tmp_path.with_name("scratch")
    scratch.mkdir()
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    started = time.monotonic()
    with pytest.raises(ProofboxError, match="rows differ") as raised:
        launch_ranks([sys.executable, "-c", code], 2, os.environ, scratch=scratch)
    assert raised.value.exit_code == ExitCode.ENVIRONMENT
    assert time.monotonic() - started < 20
    assert list(scratch.iterdir()) == []
    for rank in ("0", "1"):
        assert not Path(f"/proc/{(tmp_path / rank).read_text()}").exists()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_processes_get_the_environment_and_this_one_keeps_its_own(tmp_path: Path) -> None:
    before = dict(os.environ)
    code = f"import os, pathlib; pathlib.Path({str(tmp_path)!r}, os.environ['LOCAL_RANK'])" + (
        ".write_text(os.environ['OF_THE_TEST'])"
    )
    environment = {**os.environ, "OF_THE_TEST": "given"}
    launch_ranks([sys.executable, "-c", code], 2, environment, scratch=tmp_path)
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["given", "given"]
    assert dict(os.environ) == before
