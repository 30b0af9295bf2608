"""The live base model and its tokenizer: the only record that holds more than values and paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.base_model.gptq_checkpoint import check_zero_points, complete_config, settle
from runner.base_model.model_source import ModelSource
from runner.base_model.quantization import check_quantization, loading_arguments, settle_loaded
from runner.base_model.sharded_loading import load_sharded
from runner.base_model.trained_tokens import add_tokens, make_room, needed_rows
from runner.errors import MachineError
from runner.recipe import Model, Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A base model on its device, in evaluation mode, with the tokenizer as the recipe sets it.

    ``source`` is where it was loaded from; None for one that was made otherwise.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: str
    dtype: torch.dtype
    source: ModelSource | None = None


def choose_device(wanted: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes a GPU where there is one.

    Raises:
        MachineError: ``cuda`` is asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if available else "cpu"
    if wanted == "cuda" and not available:
        raise MachineError(
            "hardware.device: cuda, but PyTorch sees no CUDA device here. Write `auto` or `cpu`."
        )
    return wanted


def choose_dtype(block: Model, source: ModelSource, device: str) -> torch.dtype:
    """The recipe's dtype; ``auto`` is the checkpoint's on a GPU and float32 on a CPU."""
    import torch

    if block.dtype != "auto":
        named: torch.dtype = getattr(torch, block.dtype)
        return named
    if device == "cpu":
        return torch.float32
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(
        source.place, revision=source.revision, trust_remote_code=block.trust_remote_code
    ).dtype
    return stored if isinstance(stored, torch.dtype) else torch.bfloat16


def load_tokenizer(recipe: Recipe, source: ModelSource) -> PreTrainedTokenizerBase:
    """The model's tokenizer with the recipe's trained tokens and its padding token."""
    from transformers import AutoTokenizer

    from runner.data.labels.padding import configure_padding

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.place, trust_remote_code=recipe.model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise MachineError(f"model.base: {source.name!r}: no usable tokenizer: {error}") from None
    if not tokenizer.is_fast:
        raise MachineError(
            f"model.base: {source.name!r}: its tokenizer has no fast version, and supervised spans "
            "need character offsets, which only fast tokenizers give"
        )
    add_tokens(tokenizer, recipe.lora.trained_tokens, special=recipe.lora.special_tokens)
    configure_padding(tokenizer, recipe.model.pad_token)
    return tokenizer


def load_model(recipe: Recipe, source: ModelSource, *, device: str, shards: int = 1) -> LoadedModel:
    """Load weights and tokenizer onto ``device``, or one of ``shards`` parts of the weights.

    Raises:
        MachineError: the weights cannot be read, or remote code is needed and not allowed.
    """
    tokenizer = load_tokenizer(recipe, source)
    return load_weights(recipe, source, tokenizer, device=device, shards=shards)


def load_weights(
    recipe: Recipe,
    source: ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    *,
    device: str,
    shards: int = 1,
) -> LoadedModel:
    """Load the weights of ``source`` onto ``device``, to be used with ``tokenizer``.

    Trained tokens that the recipe adds have rows of their own, for every subject the same.

    Of ``shards`` processes that train together each reads and holds its own part (FSDP 2).

    Raises:
        MachineError: as ``load_model``, or the model does not embed all of the tokenizer's tokens.
        UsageError: the recipe adds tokens, and the model's output head can have no more.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = choose_dtype(recipe.model, source, device)
    arguments: dict[str, Any] = {
        "dtype": dtype,
        "trust_remote_code": recipe.model.trust_remote_code,
        "attn_implementation": "sdpa",
        **loading_arguments(recipe.quantization, device, _name_of(dtype)),
    }
    if device == "cuda" and shards == 1:
        arguments["device_map"] = {"": torch.cuda.current_device()}
    with (
        _loading_explained(source),
        memory_explained("the size of the base model, or use quantization"),
    ):
        config = _loading_config(recipe.model, source)
        if shards > 1:
            model = load_sharded(source.place, config, shards=shards, **arguments)
        else:
            model = AutoModelForCausalLM.from_pretrained(source.place, config=config, **arguments)
        if source.quantization == "gptq":
            settle(model)
    settle_loaded(recipe.quantization, model)
    _check_vocabulary(model, tokenizer, source, recipe.lora.trained_tokens)
    make_room(model, tokenizer, recipe.lora.trained_tokens)
    return LoadedModel(
        model=model.eval(), tokenizer=tokenizer, device=device, dtype=dtype, source=source
    )


def _loading_config(block: Model, source: ModelSource) -> PreTrainedConfig:
    """The configuration that the weights are loaded by.

    Raises:
        MachineError: it is that of a GPTQ checkpoint which cannot be read without a doubt.
    """
    from transformers import AutoConfig

    config: PreTrainedConfig = AutoConfig.from_pretrained(
        source.place, trust_remote_code=block.trust_remote_code
    )
    if source.quantization != "gptq":
        return config
    complete_config(config, Path(source.place))
    check_zero_points(Path(source.place), config.quantization_config)
    return config


def check_base(recipe: Recipe, source: ModelSource, device: str) -> None:
    """Refuse a base model, method, device and dtype that do not go together, before any weight.

    Raises:
        UsageError: it says which two exclude each other, or contradict the checkpoint.
        MachineError: the method's packages are not installed.
    """
    with _loading_explained(source):
        dtype = choose_dtype(recipe.model, source, device)
    check_quantization(recipe.quantization, source, device=device, dtype=_name_of(dtype))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def model_skeleton(recipe: Recipe, source: ModelSource) -> PreTrainedModel:
    """The base model's modules without weights, to check names and count parameters.

    Its embedding has rows for the tokens that the recipe adds.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = recipe.model.trust_remote_code
    with _loading_explained(source):
        config = AutoConfig.from_pretrained(source.place, trust_remote_code=trust)
        if getattr(config, "quantization_config", None) is not None:
            del config.quantization_config  # the module names are those of the plain model
        if recipe.lora.trained_tokens:
            text = config.get_text_config()
            text.vocab_size = needed_rows(
                load_tokenizer(recipe, source), recipe.lora.trained_tokens, text.vocab_size
            )
        with torch.device("meta"):
            skeleton: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, trust_remote_code=trust
            )
    return skeleton


@contextmanager
def _loading_explained(source: ModelSource) -> Iterator[None]:
    """What transformers and safetensors raise for a damaged or unknown model, for a user."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise MachineError(
            f"model.base: {source.name!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from None


def _check_vocabulary(
    model: Any,  # noqa: ANN401 - any model of transformers
    tokenizer: PreTrainedTokenizerBase,
    source: ModelSource,
    trained: tuple[str, ...],
) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > needed_rows(tokenizer, trained, rows):
        raise MachineError(
            f"model.base: {source.name!r}: the tokenizer has {len(tokenizer):,} tokens but the "
            f"model embeds {rows:,}. The two do not belong together."
        )


@contextmanager
def memory_explained(remedy: str) -> Iterator[None]:
    """Turn a GPU's lack of memory into an error that says what to lower."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise MachineError(f"the GPU's memory does not suffice: {first} Lower {remedy}.") from None


def apply_threads(threads: int | str) -> int:
    """Set PyTorch's CPU threads as ``hardware.threads`` says and return how many there are."""
    import torch

    if isinstance(threads, int):
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def quiet_libraries() -> None:
    """Keep libraries' progress bars and advice out of our output; errors still show."""
    import logging
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("trl", "peft", "accelerate", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # PiSSA is saved as a plain LoRA on the untouched base, which is what this warning asks for.
    warnings.filterwarnings("ignore", message="PiSSA changes the base weights")
