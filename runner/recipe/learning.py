"""The blocks about learning: base model, quantization, LoRA, training, hardware."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.blocks import INTEGRAL, Block, Count, Flag, Fraction, Number, Text


class Model(Block):
    """The base model that the adapter is trained on."""

    base: Text = Field(
        description="Folder of the base model relative to this recipe, or a Hub id.",
        examples=["mistralai/Mistral-7B-Instruct-v0.2", "models/tiny"],
    )
    revision: Text | None = Field(
        default=None,
        description="Branch, tag or commit of a Hub model; null for the newest. "
        "The lock records the commit.",
        examples=["main", None],
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto",
        description="Type of the base model's weights. "
        "auto: the checkpoint's own on a GPU, float32 on a CPU.",
        examples=["bfloat16"],
    )
    pad_token: Text | None = Field(
        default=None,
        description="Token that fills up shorter examples of a batch. It must differ from the "
        "end-of-sequence token. null: the tokenizer's own.",
        examples=["<unk>", None],
    )
    trust_remote_code: Flag = Field(
        default=False,
        description="Whether Python code that comes with the base model may run.",
        examples=[False],
    )


class Quantization(Block):
    """How the base model's weights are stored."""

    method: Literal["none", "gptq"] = Field(
        default="none",
        description="none: as they are. gptq: the base model is a GPTQ checkpoint.",
        examples=["gptq"],
    )
    bits: Literal[2, 3, 4, 8] | None = Field(
        default=None,
        description="Bits per weight of the GPTQ checkpoint; null without quantization.",
        examples=[4, None],
    )
    kernel: Literal["auto", "torch", "triton"] = Field(
        default="auto",
        description="Which GPTQ kernel multiplies. auto: the fastest here that can train.",
        examples=["torch"],
    )


class Lora(Block):
    """The low-rank adapter (Hu et al. 2021, arXiv 2106.09685)."""

    r: Annotated[int, Field(strict=True, ge=1, le=65_536), INTEGRAL] = Field(
        default=16,
        description="Rank of the adapter's matrices. Higher: learns more, takes more memory.",
        examples=[32],
    )
    alpha: Annotated[Number, Field(gt=0, le=1_000_000)] = Field(
        default=32.0,
        description="Scale: the adapter is multiplied by alpha / r (rslora: alpha / sqrt(r)).",
        examples=[16],
    )
    dropout: Fraction = Field(
        default=0.0,
        description="Share of the adapter's inputs that are zeroed while training.",
        examples=[0.05],
    )
    target_modules: Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=1000)] = (
        Field(
            default="all-linear",
            description="Modules that get an adapter: a list of names, one regular expression that "
            "matches a module's whole path, or all-linear.",
            examples=[["q_proj", "v_proj"], r".*\.(q|v)_proj", "all-linear"],
        )
    )
    bias: Literal["none", "all", "lora_only"] = Field(
        default="none",
        description="Which bias terms are trained too.",
        examples=["lora_only"],
    )
    variant: Literal["lora", "rslora", "dora", "pissa"] = Field(
        default="lora",
        description="lora: plain. rslora: rank-stabilized scale. dora: magnitude and direction "
        "apart. pissa: starts from the principal singular vectors.",
        examples=["dora"],
    )


class Training(Block):
    """The optimization. Exactly one of ``max_steps`` and ``epochs`` is given."""

    max_steps: Count | None = Field(
        default=None,
        description="Optimizer steps. Give either max_steps or epochs.",
        examples=[300, None],
    )
    epochs: Annotated[Number, Field(gt=0, le=1_000_000)] | None = Field(
        default=None,
        description="Passes over the train partition. Give either epochs or max_steps.",
        examples=[3, None],
    )
    batch_size: Annotated[int, Field(strict=True, ge=1, le=1_000_000), INTEGRAL] = Field(
        default=8,
        description="Examples per optimizer step, over all devices.",
        examples=[4],
    )
    learning_rate: Annotated[Number, Field(gt=0, le=100)] = Field(
        default=2e-4,
        description="Highest learning rate, reached after the warm-up.",
        examples=[3e-4],
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine",
        description="How the learning rate falls after the warm-up.",
        examples=["linear"],
    )
    warmup_ratio: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        default=0.0,
        description="Share of the steps during which the learning rate rises from 0.",
        examples=[0.05],
    )
    optimizer: Literal[
        "adamw", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "adafactor", "sgd"
    ] = Field(
        default="adamw",
        description="The 8-bit and paged ones need a CUDA device; without one adamw is used "
        "instead, and the run says so.",
        examples=["paged_adamw_32bit"],
    )
    weight_decay: Annotated[Number, Field(ge=0, le=100)] = Field(
        default=0.0,
        description="Decoupled weight decay.",
        examples=[1e-3],
    )
    max_grad_norm: Annotated[Number, Field(gt=0, le=1_000_000)] | None = Field(
        default=1.0,
        description="Gradients are scaled down to this norm; null for no clipping.",
        examples=[0.3, None],
    )
    neftune_alpha: Annotated[Number, Field(gt=0, le=1_000_000)] | None = Field(
        default=None,
        description="Noise added to the embeddings while training (arXiv 2310.05914); "
        "null for none.",
        examples=[5, None],
    )
    log_every: Count = Field(
        default=10,
        description="Steps between two points of the training curve.",
        examples=[25],
    )
    validate_every: Count | None = Field(
        default=None,
        description="Steps between two measurements of the validation loss; null for never.",
        examples=[100, None],
    )
    checkpoint_every: Count | None = Field(
        default=None,
        description="Steps between two checkpoints, from which an interrupted run continues. "
        "null: as often as validate_every, or ten times in all where that is null too.",
        examples=[100, None],
    )
    trackers: tuple[Literal["tensorboard"], ...] = Field(
        default=(),
        description="Where the training curve is logged besides the run folder's own record.",
        examples=[["tensorboard"]],
        json_schema_extra={"uniqueItems": True},
    )


class Hardware(Block):
    """How this machine computes it. Never changes what is computed beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="auto: the GPU where there is one.",
        examples=["cpu"],
    )
    micro_batch_size: Literal["auto"] | Count = Field(
        default="auto",
        description="Examples computed at once; batch_size is made up of several of these.",
        examples=[1],
    )
    activation_checkpointing: Literal["auto", True, False] = Field(
        default="auto",
        description="true: less memory, about a third slower.",
        examples=[True],
    )
    batch_tokens: Literal["auto"] | Count = Field(
        default="auto",
        description="Most tokens in one batch of an evaluation.",
        examples=[8192],
    )
    threads: Literal["auto"] | Annotated[int, Field(strict=True, ge=1, le=4096), INTEGRAL] = Field(
        default="auto",
        description="CPU threads; auto: one per core that this process may use.",
        examples=[2],
    )
