"""The blocks about learning: base model, quantization, LoRA, training, hardware."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.blocks import INTEGRAL, Block, Count, Flag, Fraction, Number, String, Text

Rank = Annotated[int, Field(strict=True, ge=1, le=65_536), INTEGRAL]
Scale = Annotated[Number, Field(gt=0, le=1_000_000)]


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


class Calibration(Block):
    """Rows that GPTQ measures its rounding error on, while it quantizes a base model."""

    examples: Count = Field(
        default=128,
        description="Rows of the train partition, as the template renders them.",
        examples=[256],
    )
    max_length: Count | None = Field(
        default=None,
        description="Tokens that are kept of each; null for template.max_length.",
        examples=[512, None],
    )


class Quantization(Block):
    """How the base model's weights are stored."""

    method: Literal["none", "gptq", "bitsandbytes", "torchao"] = Field(
        default="none",
        description="none: as they are. gptq: a GPTQ checkpoint, or one made of the base model by "
        "the run. bitsandbytes, torchao: rounded while they are loaded, without calibration.",
        examples=["gptq"],
    )
    bits: Literal[2, 3, 4, 8] | None = Field(
        default=None,
        description="Bits per weight; null without quantization. gptq: 2, 4 or 8. bitsandbytes: 4 "
        "(NF4, its scales quantized too) or 8 (int8). torchao: 8, or 4 on CUDA.",
        examples=[4, None],
    )
    kernel: Literal["auto", "torch", "triton"] = Field(
        default="auto",
        description="Which GPTQ kernel multiplies. auto: the fastest here that can train.",
        examples=["torch"],
    )
    group_size: Literal[32, 64, 128, -1] = Field(
        default=128,
        description="Weights that share one GPTQ scale; -1 for a whole row. Smaller: more "
        "accurate, larger files. An existing checkpoint has its own.",
        examples=[64],
    )
    desc_act: Flag = Field(
        default=False,
        description="Whether GPTQ rounds the columns that matter most first: often more accurate, "
        "slower to compute with. An existing checkpoint has its own.",
        examples=[True],
    )
    sym: Flag = Field(
        default=True,
        description="Whether GPTQ's grid is symmetric about zero. An existing checkpoint has its "
        "own.",
        examples=[False],
    )
    damp: Annotated[Number, Field(gt=0, lt=1)] = Field(
        default=0.05,
        description="Share of the mean diagonal that is added to GPTQ's Hessian before it is "
        "inverted (arXiv 2210.17323). More: stabler, less exact.",
        examples=[0.01],
    )
    calibration: Calibration = Field(
        default=Calibration(),
        description="What GPTQ quantizes the base model with; not for a checkpoint that is "
        "quantized already.",
        examples=[{"examples": 256}],
    )


class Lora(Block):
    """The low-rank adapter (Hu et al. 2021, arXiv 2106.09685)."""

    r: Rank = Field(
        default=16,
        description="Rank of the adapter's matrices. Higher: learns more, takes more memory.",
        examples=[32],
    )
    alpha: Scale = Field(
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
    exclude_modules: Text | tuple[Text, ...] = Field(
        default=(),
        description="Modules that get no adapter although target_modules matches them: a list of "
        "names, or one regular expression.",
        examples=[["down_proj"], r".*\.layers\.0\..*"],
    )
    rank_pattern: dict[String, Rank] = Field(
        default={},
        description="Another rank than r for some modules: a name, or a regular expression for the "
        "end of a module's path, and their rank.",
        examples=[{"down_proj": 8}],
    )
    alpha_pattern: dict[String, Scale] = Field(
        default={},
        description="Another alpha for some modules, as in rank_pattern.",
        examples=[{"down_proj": 16}],
    )
    modules_to_save: tuple[Text, ...] = Field(
        default=(),
        description="Names of modules that are trained whole, without low rank, and saved with the "
        "adapter.",
        examples=[["lm_head"]],
        json_schema_extra={"uniqueItems": True},
    )
    trained_tokens: tuple[Text, ...] = Field(
        default=(),
        description="Tokens whose rows of the embedding and of the output head are trained. One "
        "that is not in the vocabulary is added to it.",
        examples=[["<|query|>", "<|result|>"]],
        json_schema_extra={"uniqueItems": True},
    )
    special_tokens: tuple[Text, ...] = Field(
        default=(),
        description="Those of trained_tokens that the chat template writes and no row's text may "
        "hold: they are added as special tokens.",
        examples=[["<|im_start|>", "<|im_end|>"]],
        json_schema_extra={"uniqueItems": True},
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
        description="The 8-bit ones need the extra bitsandbytes. Where nothing can be paged (no "
        "CUDA device), the moments stay where the model is, and the run says so.",
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
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = Field(
        default=(),
        description="Where the training curve and the verdict's figures are logged besides the run "
        "folder's own records. All but tensorboard are extras: pip install 'proofbox[wandb]'.",
        examples=[["tensorboard", "wandb"]],
        json_schema_extra={"uniqueItems": True},
    )


class Hardware(Block):
    """How this machine computes it. Never changes what is computed beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="auto: the GPU where there is one.",
        examples=["cpu"],
    )
    micro_batch_tokens: Literal["auto"] | Count = Field(
        default="auto",
        description="Most tokens computed at once while training; batch_size examples are cut "
        "into as many such parts as it takes. auto: what the free memory allows.",
        examples=[8192],
    )
    attention: Literal["auto", "packed", "padded"] = Field(
        default="auto",
        description="packed: examples lie end to end, nothing is computed for padding. padded: "
        "rows of one length. auto: packed wherever the model allows it.",
        examples=["packed"],
    )
    compile: Literal["auto", True, False] = Field(
        default="auto",
        description="Whether the model's layers are compiled for training. auto: on a GPU, where "
        "the run is long enough to pay for it.",
        examples=[False],
    )
    activation_checkpointing: Literal["auto", True, False] = Field(
        default="auto",
        description="true: less memory, about a third slower. auto: only if needed, and then in as "
        "few layers as it takes.",
        examples=[True],
    )
    activation_offload: Flag = Field(
        default=False,
        description="Whether activations wait in the CPU's memory for the backward pass.",
        examples=[True],
    )
    deterministic: Flag = Field(
        default=False,
        description="Whether a GPU may use only operations that give the same bytes every time. "
        "A CPU always does.",
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
