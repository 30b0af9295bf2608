"""The held-out loss does not depend on how many processes share the examples."""

from __future__ import annotations

import random
from itertools import chain
from multiprocessing import get_context
from typing import Any

import pytest

from evalsuite.examples import Example
from evalsuite.loss import score_examples

from .conftest import PAD


def _score(folder: str, examples: list[Example], batch_tokens: int, pack: bool) -> list[float]:
    import torch
    from peft import PeftModel
    from transformers import MistralForCausalLM

    torch.set_num_threads(1)
    model = PeftModel.from_pretrained(
        MistralForCausalLM.from_pretrained(f"{folder}/base"), f"{folder}/adapter"
    )
    scored = score_examples(model, examples, pad_token_id=PAD, batch_tokens=batch_tokens, pack=pack)
    return [loss.nll for loss in scored]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mistral: Any, adapter: Any) -> str:
    path = tmp_path_factory.mktemp("saved")
    mistral.save_pretrained(path / "base")
    adapter.save_pretrained(path / "adapter")
    return str(path)


def test_one_and_two_processes_any_batch_any_order(folder: str, examples: list[Example]) -> None:
    longest = max(len(example.input_ids) for example in examples)
    alone = _score(folder, examples, 1, False)
    order = random.Random(0).sample(range(len(examples)), len(examples))
    halves = [order[::2], order[1::2]]
    with get_context("spawn").Pool(2) as pool:
        for rows in (1, 8, 64):
            for pack in (False, True):
                work = [
                    (folder, [examples[i] for i in half], rows * longest, pack) for half in halves
                ]
                found = dict(
                    zip(halves[0] + halves[1], chain(*pool.starmap(_score, work)), strict=True)
                )
                assert [found[i] for i in range(len(examples))] == pytest.approx(alone, rel=1e-5)
