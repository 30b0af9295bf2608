"""Loading a base model whose weights are shared out over the processes that train together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel

# What transformers' plan does to each layer: its weights are gathered for it alone.
LAYERS = {"layers.*": "free_full_weight"}


def load_sharded(
    place: str,
    config: PreTrainedConfig,
    *,
    shards: int,
    **arguments: Any,  # noqa: ANN401 - as from_pretrained
) -> PreTrainedModel:
    """Load a causal model of which each of ``shards`` processes reads and holds its own part.

    FSDP 2 as transformers applies it while loading, layer by layer. Embeddings, last norm and head
    are shared out too, but gathered once for a whole pass: the loss calls the head in chunks.
    An adapter that is attached afterwards is whole in every process.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.distributed.configuration_utils import DistributedConfig

    cast("Any", config).base_model_fsdp_plan = dict(LAYERS)
    with _no_plan_for_head(config, trust=arguments.get("trust_remote_code", False)):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            distributed_config=DistributedConfig(fsdp_size=shards),
            **arguments,
        )
    model.register_forward_hook(_let_go)
    # Frozen before weights are gathered for the first time: both kinds of parameter then are.
    model.requires_grad_(False)
    # The first pass through the whole tells every layer that it is a part of it.
    with torch.no_grad():
        model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False)
    return model


def _let_go(model: torch.nn.Module, *_: object) -> None:
    """After a pass without gradients, let go of what was gathered, as a backward pass does.

    Else it would lie about until one process saves an adapter, which lets go in that one alone: the
    next pass would gather there and not elsewhere.
    """
    import torch

    if not torch.is_grad_enabled():
        cast("Any", model).reshard()


def hold_whole_adapter(model: PeftModel) -> None:
    """Let libraries see that the adapter on ``model`` is whole, whatever its base model is.

    transformers' trainer makes no checkpoints of an optimizer over shards, and peft gathers the
    whole base model before it saves an adapter: both ask the wrapper, which asks the base model.
    """
    wrapper: Any = model
    wrapper.is_distributed_loading_by_transformers = False
    wrapper._tp_size = None  # peft takes transformers' 1 for tensor parallelism


def gather_outside_layers(model: torch.nn.Module) -> None:
    """Gather embeddings, last norm and head, as a pass through the whole does, until the next."""
    cast("Any", model).unshard()


@contextmanager
def _no_plan_for_head(config: PreTrainedConfig, *, trust: bool) -> Iterator[None]:
    """Transformers joins a model's own plan, which is the head's, to that of its configuration."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    model_class = cast("Any", type(skeleton))
    plan = model_class._fsdp_plan  # documented at DistributedConfig; there is no other way
    model_class._fsdp_plan = None
    try:
        yield
    finally:
        model_class._fsdp_plan = plan
