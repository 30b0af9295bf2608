"""What a lora block may mean of a model, and what is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.errors import UsageError
from runner.recipe import Lora
from runner.training.lora import adapted_modules, attach_adapter, count_adapter_parameters
from runner.training.lora_targets import find_targets


def skeleton(**changes: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 40}
    with torch.device("meta"):
        return Qwen2ForCausalLM(Qwen2Config(**{**sizes, **heads, **changes}))


def block(**given: Any) -> Lora:
    return Lora.model_validate({"r": 2, **given})


TOKEN = {"trained_tokens": ["<x>"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_modules": ["q_proj", "w_proj"]}, r"'w_proj' match no linear module .* q_proj"),
        ({"target_modules": r".*\.w_proj"}, r"'.*' matches no module's full name"),
        ({"target_modules": r".*\.layers\..*"}, "matches model.layers.0 too, which is a Qwen2"),
        ({"target_modules": ["0", "q_proj"]}, "'0' match no linear module"),
        ({"exclude_modules": ["lm_head"]}, "'lm_head' excludes nothing"),
        ({"exclude_modules": r".*\.layers\.7\..*"}, r"'.*layers.*7.*' excludes nothing"),
        (
            {"target_modules": ["q_proj"], "exclude_modules": ["self_attn.q_proj"]},
            "no module is left",
        ),
        ({"rank_pattern": {"w_proj": 3}}, r"rank_pattern: 'w_proj' matches no module that has an"),
        (
            {"target_modules": ["q_proj"], "alpha_pattern": {"k_proj": 3}},
            "alpha_pattern: 'k_proj' matches no module that has an adapter. Those end in: q_proj",
        ),
        (
            {"rank_pattern": {"q_proj": 3, r"layers\.0\..*": 4}},
            r"both match model.layers.0.self_attn.q_proj, with different values",
        ),
        ({"modules_to_save": ["final_norm"]}, "'final_norm' is no module with weights"),
        ({"modules_to_save": ["down_proj"]}, "down_proj is trained whole, and target_modules"),
        ({"modules_to_save": ["mlp"]}, "mlp is trained whole, and target_modules gives .*mlp.gate"),
        (
            {"target_modules": ["q_proj"], "modules_to_save": ["mlp", "up_proj"]},
            "mlp.up_proj lies inside model.layers.0.mlp",
        ),
        ({"target_modules": ["lm_head"], **TOKEN}, "lm_head has an adapter by target_modules"),
        ({"variant": "pissa", "r": 9}, "pissa takes 9 singular vectors of .*k_proj, which has 8"),
        (
            {"target_modules": ["o_proj"], "bias": "lora_only"},
            "the modules with an adapter have no bias",
        ),
    ],
)
def test_what_fits_no_model_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_targets(skeleton(), block(**given))


def test_a_model_without_bias_has_none_to_train(tiny_model_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with pytest.raises(UsageError, match="bias: all, but this model has no bias"):
        find_targets(model, block(bias="all"))
    assert find_targets(skeleton(), block(bias="all")).low_rank


def test_a_checkpoint_that_is_not_as_tied_as_it_says_is_refused() -> None:
    """transformers would make the two weights one as soon as either is touched."""
    model = skeleton(tie_word_embeddings=True)
    assert find_targets(model, block(**TOKEN)).token_modules == ("model.embed_tokens",)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    for given in (TOKEN, {"modules_to_save": ["embed_tokens"]}):
        with pytest.raises(UsageError, match="tie_word_embeddings: true, and its weights say oth"):
            find_targets(model, block(**given))


def test_a_head_with_a_bias_has_no_trainable_rows() -> None:
    model = skeleton()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(40, device="meta"))
    with pytest.raises(UsageError, match="rows of lm_head cannot be trained"):
        find_targets(model, block(**TOKEN))


class PackedLinear(torch.nn.Module):
    """As a GPTQ layer has it: integers, and the sizes of the matrix that they stand for."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.qweight = torch.nn.Parameter(
            torch.zeros(2, 2, dtype=torch.int32, device="meta"), requires_grad=False
        )


def packed_skeleton() -> Any:
    model = skeleton()
    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, module in list(parent.named_children()):
                if isinstance(module, torch.nn.Linear):
                    setattr(parent, name, PackedLinear(module))
    return model


def test_packed_modules_are_linear_too() -> None:
    targets = find_targets(packed_skeleton(), block(**TOKEN, exclude_modules=["down_proj"]))
    assert len(targets.low_rank) == 2 * 6
    assert targets.token_modules == ("model.embed_tokens", "lm_head")
    plain = find_targets(skeleton(), block(exclude_modules=["down_proj"]), quantized=True)
    assert plain.low_rank == targets.low_rank


def test_packed_weights_are_not_trained_whole() -> None:
    """A skeleton's modules are plain; that the checkpoint is quantized must be told."""
    given = {"target_modules": ["q_proj"], "modules_to_save": ["down_proj"]}
    assert find_targets(skeleton(), block(**given)).whole
    for model, quantized in ((skeleton(), True), (packed_skeleton(), False)):
        with pytest.raises(UsageError, match=r"down_proj is quantized, and such weights"):
            find_targets(model, block(**given), quantized=quantized)
    head = find_targets(skeleton(), block(modules_to_save=["lm_head", "norm"]), quantized=True)
    assert head.whole == ("model.norm", "lm_head")


def test_names_of_whole_modules_end_at_a_dot() -> None:
    """PEFT would take any module whose name ends in these letters: input_layernorm too."""
    from transformers import AutoModelForCausalLM

    given = block(modules_to_save=["norm"])
    targets = find_targets(skeleton(), given)
    assert targets.whole == ("model.norm",)
    model = AutoModelForCausalLM.from_config(skeleton().config)
    adapted = attach_adapter(model, given, seed=1)
    kept = {n for n, p in adapted.named_parameters() if p.requires_grad and "norm" in n}
    assert kept == {"base_model.model.model.norm.modules_to_save.default.weight"}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"variant": "dora", "target_modules": ["q_proj", "down_proj"]},
        {"variant": "pissa", "bias": "lora_only"},
        {"bias": "all", "rank_pattern": {"o_proj": 5}},
        {"trained_tokens": ["<x>", "<y>"], "exclude_modules": r".*\.1\..*"},
        {"trained_tokens": ["<x>", "<y>"], "modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
    ],
)
def test_parameters_are_counted_without_weights(given: dict[str, Any], tied: bool) -> None:
    from transformers import AutoModelForCausalLM

    chosen = block(**given)
    counted = count_adapter_parameters(skeleton(tie_word_embeddings=tied), chosen)
    model = AutoModelForCausalLM.from_config(skeleton(tie_word_embeddings=tied).config)
    ids = range(len(chosen.trained_tokens))
    adapted = attach_adapter(model, chosen, seed=1, token_ids=ids)
    assert counted == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert tuple(adapted_modules(adapted)) == tuple(
        sorted(find_targets(skeleton(tie_word_embeddings=tied), chosen).low_rank)
    )


def test_modules_of_other_kinds_are_linear_as_well() -> None:
    """GPT-2 multiplies by the transpose, in a class of its own."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40))
    targets = find_targets(model, block())
    assert {name.rpartition(".")[2] for name in targets.low_rank} == {"c_attn", "c_proj", "c_fc"}
    assert count_adapter_parameters(model, block()) == 2 * (16 + 48 + 32 + 80 + 80)
