"""The last feed-forward part computes where something is learned, and nothing else changes."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from runner.training.last_layer import (
    LearnedPlaces,
    gives_one_tensor,
    last_feed_forward,
    narrow_last_layer,
)
from tests.runner.training.test_memory_trace import FAMILIES
from tests.runner.training.test_step_engine import computed, engine_of, reference, rows_of, worst


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(FAMILIES[family]).eval()


class Widths:
    """How many tokens each feed-forward part of a model was given."""

    def __init__(self, model: Any) -> None:
        self.seen: list[int] = []
        for layer in model.base_model.layers:
            projection = cast("Any", layer.mlp).down_proj
            projection.register_forward_pre_hook(self._look)

    def _look(self, _: Any, given: Any) -> None:
        self.seen.append(given[0].shape[:-1].numel())


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_last_layer_is_narrowed_and_the_places_come_out_the_same(family: str) -> None:
    model = model_of(family)
    tokens = torch.arange(24).view(2, 12) + 5
    places = torch.tensor([3, 4, 11, 20])
    with torch.no_grad():
        whole = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        learned = narrow_last_layer(model)
        widths = Widths(model)
        with learned.at(places):
            found = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        again = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    torch.testing.assert_close(found.flatten(0, 1)[places], whole.flatten(0, 1)[places])
    assert not torch.allclose(found, whole)  # elsewhere it is not computed
    assert torch.equal(again, whole)
    assert widths.seen == [24, 24, 4, 24, 24, 24]


class Mixing(torch.nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden - hidden.mean(dim=1, keepdim=True)


class Two(torch.nn.Module):
    """Gives more than a tensor, as experts do that report how they were chosen."""

    def __init__(self, plain: torch.nn.Module) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, hidden: torch.Tensor) -> Any:
        return self.plain(hidden), hidden


def mixing_inside(model: Any) -> None:
    model.model.layers[-1].mlp = Mixing()


def mixing_after(model: Any) -> None:
    model.model.norm = torch.nn.Sequential(model.model.norm, Mixing())


@pytest.mark.parametrize("mixing", [mixing_inside, mixing_after])
def test_where_tokens_are_mixed_nothing_is_narrowed(mixing: Any) -> None:
    model = model_of("llama")
    mixing(model)
    last = cast("Any", last_feed_forward(model))
    narrow_last_layer(model)
    assert not isinstance(last.forward.__self__, LearnedPlaces)
    assert not model.training


def test_what_gives_more_than_a_tensor_is_not_traced_as_narrowed() -> None:
    with torch.device("meta"):
        assert not gives_one_tensor(Two(torch.nn.Linear(8, 8)), 8)
        assert gives_one_tensor(torch.nn.Linear(8, 8), 8)


def test_a_call_with_more_than_hidden_states_is_not_narrowed() -> None:
    layer = torch.nn.Bilinear(4, 4, 4)
    learned = LearnedPlaces(layer)
    hidden = torch.ones(1, 3, 4)
    with learned.at(torch.tensor([1])):
        found = layer(hidden, hidden)
    assert found.abs().sum(-1).count_nonzero() == 3


def test_two_engines_on_a_model_share_one() -> None:
    model = model_of("mistral")
    assert narrow_last_layer(model) is narrow_last_layer(model)
    last = cast("Any", last_feed_forward(model))
    assert isinstance(last.forward.__self__, LearnedPlaces)


def test_an_interrupted_step_leaves_the_model_whole() -> None:
    engine, rows = engine_of(), rows_of()

    def fail(_: torch.Tensor) -> None:
        raise KeyboardInterrupt

    engine.parts = type(engine.parts)(
        layout="packed", budget=engine.budget, pad_token_id=0, backward=fail
    )
    with pytest.raises(KeyboardInterrupt):
        computed(engine, rows)
    assert engine.learned.places is None


def test_a_compiled_layer_is_not_narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.training.layer_compilation import Compilation

    monkeypatch.setattr(Compilation, "compiled", True)
    engine = engine_of()
    last = cast("Any", last_feed_forward(engine.inner))
    assert not isinstance(getattr(last.forward, "__self__", None), LearnedPlaces)


def test_places_that_are_one_off_would_be_caught() -> None:
    """The planted error: gradients differ from those of the whole."""
    engine, rows = engine_of(), rows_of()
    _, wanted = reference()
    plain = engine.learned.at
    engine.learned.at = lambda places: plain((places - 1).clamp(min=0))  # type: ignore[method-assign]
    _, planted = computed(engine, rows)
    assert worst(planted, wanted) > 1e-4
