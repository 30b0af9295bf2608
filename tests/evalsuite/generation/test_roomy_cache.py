"""A cache in memory of a fixed size holds the very same as transformers' own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from evalsuite.generation.roomy_cache import RoomyLayer, roomy_cache
from tests.evalsuite.generation.asking import ask, make_prompts


def test_keys_and_values_are_those_of_transformers_cache(mistral: Any) -> None:
    import torch
    from transformers import DynamicCache

    torch.manual_seed(0)
    own = DynamicCache(config=mistral.config)
    roomy = roomy_cache(mistral, 12)
    assert roomy is not None
    tokens = torch.randint(3, 97, (4, 12))
    kept = torch.tensor([0, 2])
    addresses = set()
    with torch.inference_mode():
        for first, end in ((0, 7), (7, 8), (8, 9), (9, 10), (10, 11), (11, 12)):
            asked = tokens[:, first:end]
            for cache in (own, roomy):
                mistral(input_ids=asked, past_key_values=cache)
            for one, other in zip(own.layers, roomy.layers, strict=True):
                assert torch.equal(one.keys, other.keys)
                assert torch.equal(one.values, other.values)
            addresses.add(roomy.layers[0].keys.data_ptr())
            if end == 9:  # half of the rows leave
                tokens = tokens[kept]
                for cache in (own, roomy):
                    cache.batch_select_indices(kept)
    assert len(addresses) == 2, "memory was asked for once, and once more when rows left"
    assert roomy.layers[0].keys.shape == (2, 2, 12, 8)


def test_what_is_longer_than_expected_still_fits() -> None:
    import torch

    layer = RoomyLayer(3)
    parts = [torch.randn(1, 1, size, 2) for size in (2, 1, 1, 4)]
    for place, part in enumerate(parts):
        keys, values = layer.update(part, part + 1)
        assert torch.equal(keys, torch.cat(parts[: place + 1], dim=2))
        assert torch.equal(values, keys + 1)


def test_other_tensors_in_their_place_are_taken_over() -> None:
    import torch

    layer = RoomyLayer(8)
    first, new = torch.randn(4, 1, 3, 2), torch.randn(4, 1, 1, 2)
    layer.update(first, first)
    layer.reorder_cache(torch.tensor([3, 2, 1, 0]))
    keys, _ = layer.update(new, new)
    assert torch.equal(keys, torch.cat([first.flip(0), new], dim=2))
    layer.crop(-2)
    keys, _ = layer.update(new, new)
    assert torch.equal(keys, torch.cat([first.flip(0)[:, :, :2], new], dim=2))


@pytest.mark.parametrize(("window", "roomy"), [(4096, True), (65, True), (64, False)])
def test_a_window_that_slides_is_left_to_transformers(
    mistral: Any, window: int, roomy: bool
) -> None:
    """Of prompts of at most 41 tokens with 24 new ones."""
    model = copy.deepcopy(mistral)
    model.config.sliding_window = window
    assert (roomy_cache(model, 65) is not None) == roomy


def test_answers_are_the_same_without_it(mistral: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = make_prompts()
    expected = ask(mistral, prompts)
    seen: list[Any] = []
    monkeypatch.setattr(
        "evalsuite.generation.roomy_cache.roomy_cache", lambda *given: seen.append(given)
    )
    assert ask(mistral, prompts) == expected
    assert len(seen) == 1
