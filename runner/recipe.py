"""The recipe: what is learned, from which data, how it is judged. One source of the JSON Schema.

Everything here is a frozen value. Rules that span several keys live in ``recipe_rules``; reading a
file with line numbers lives in ``recipe_file``. Paths stay as written: they are relative to the
recipe's file, and whoever opens them resolves them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

HeldOut = Literal["validation", "test"]
PartitionName = Literal["train", "validation", "test"]
Claim = Literal["superior", "non_inferior", "floor", "ceiling"]
# What happens to a row that breaks a rule. error: the run stops. drop: the row is left out.
# warn: it is kept. All are counted and listed.
Policy = Literal["error", "drop", "warn"]
# Where a row that breaks the rule cannot be used at all.
StrictPolicy = Literal["error", "drop"]
LeakPolicy = Literal["error", "drop_from_train", "warn"]


def _integral(value: object) -> object:
    """4.0 is the integer 4, as JSON Schema has it; everything else is left to the strict check."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# `1e3` steps are 1000 steps, but "4" or true is no number.
INTEGRAL = BeforeValidator(_integral)
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
String = Annotated[str, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
# 1 billion: above any count that makes sense, below what overflows a 32-bit integer.
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000), INTEGRAL]
Fraction = Annotated[Number, Field(ge=0, le=1)]


class Block(BaseModel):
    """A block of a recipe: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Columns(Block):
    """Which column of the data plays which part."""

    instruction: Text = Field(
        default="instruction",
        description="Column with the task (format alpaca).",
        examples=["question"],
    )
    input: Text | None = Field(
        default="input",
        description="Column with the task's input; null where the data has none (format alpaca).",
        examples=["context", None],
    )
    output: Text = Field(
        default="output",
        description="Column with the answer that is learned (format alpaca).",
        examples=["answer"],
    )
    messages: Text = Field(
        default="messages",
        description="Column with the list of {role, content} messages (format messages).",
        examples=["conversation"],
    )
    tools: Text | None = Field(
        default=None,
        description="Column with the tool definitions that a conversation may call: a list, or "
        "the JSON text of one (formats messages and sharegpt). null: no tools.",
        examples=["tools", None],
    )
    conversations: Text = Field(
        default="conversations",
        description="Column with the list of {from, value} turns (format sharegpt).",
        examples=["conversation"],
    )
    prompt: Text = Field(
        default="prompt",
        description="Column with the prompt: a text, or a list of messages "
        "(format prompt_completion).",
        examples=["question"],
    )
    completion: Text = Field(
        default="completion",
        description="Column with the completion: a text, or a list of messages "
        "(format prompt_completion).",
        examples=["answer"],
    )
    text: Text = Field(
        default="text",
        description="Column with the whole text, trained on as it stands (format text).",
        examples=["content"],
    )
    tests: Text | None = Field(
        default=None,
        description="Column with Python asserts that run after the answer's code. "
        "The metric tests_passed needs it.",
        examples=["tests"],
    )


class Partition(Block):
    """How rows are divided into train, validation and test: once, for every stage."""

    by: Literal["position", "random", "hash"] = Field(
        default="hash",
        description="position: in file order, train first. random: shuffled by the seed. "
        "hash: by content, so that appending rows moves no old row to another partition.",
        examples=["position"],
    )
    train: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=0.8,
        description="Share of the rows to train on. The three shares sum to 1.",
        examples=[0.9],
    )
    validation: Fraction = Field(
        default=0.1,
        description="Share of the rows for validation during training; 0 for none.",
        examples=[0.05],
    )
    test: Fraction = Field(
        default=0.1,
        description="Share of the rows that the trainer never sees, and gates judge by.",
        examples=[0.05],
    )
    group: Text | None = Field(
        default=None,
        description="Column whose equal values stay in one partition, such as a document's or an "
        "author's name; null for none.",
        examples=["document", None],
    )
    stratify: Text | None = Field(
        default=None,
        description="Column in each of whose values the shares hold (by position or random); "
        "null for none.",
        examples=["language", None],
    )


class Source(Block):
    """One source of rows, where a dataset has several or its rows are to be weighed."""

    path: Text = Field(
        description="Path, glob or URL of row files, or a Hugging Face Hub id.",
        examples=["data/train.jsonl", "https://example.org/rows.jsonl.gz", "owner/dataset"],
    )
    split: Text | None = Field(
        default=None,
        description="Split of a Hub dataset to read; null for the dataset's own (dataset.split).",
        examples=["train", None],
    )
    revision: Text | None = Field(
        default=None,
        description="Branch, tag or commit of a Hub dataset; null for the newest.",
        examples=["main", None],
    )
    limit: Count | None = Field(
        default=None,
        description="Use only the first this many rows that pass the filters; null for all.",
        examples=[10_000, None],
    )
    weight: Annotated[Number, Field(gt=0, le=1000)] = Field(
        default=1.0,
        description="How often each of its train rows is used: 2 means twice, 0.5 means half of "
        "them, chosen by content. Held-out rows are used once, whatever the weight.",
        examples=[0.5],
    )
    filter: Text | None = Field(
        default=None,
        description="Condition in Jinja over the row's columns; rows for which it is false are "
        "not read.",
        examples=["language == 'en' and answer | length > 20", None],
    )
    partition: PartitionName | None = Field(
        default=None,
        description="The partition that all its rows belong to; null: divided as "
        "dataset.partition says.",
        examples=["test", None],
    )


class Violations(Block):
    """What happens to rows that break a rule: error, drop or warn. All are counted and listed."""

    unusable_row: StrictPolicy = Field(
        default="error",
        description="A row that is no conversation ending with an answer, that the chat template "
        "cannot render, or whose answer it changes.",
        examples=["drop"],
    )
    special_token_in_text: Literal["error", "drop", "escape"] = Field(
        default="error",
        description="A row whose text holds a special token's name, such as </s>. escape: it "
        "stays text, in training, evaluation and generation alike.",
        examples=["escape"],
    )
    empty_answer: Policy = Field(
        default="warn",
        description="An answer without a visible character.",
        examples=["drop"],
    )
    no_supervised_token: StrictPolicy = Field(
        default="error",
        description="A row of which nothing would be learned.",
        examples=["drop"],
    )
    stop_token: Policy = Field(
        default="error",
        description="An answer whose stop token is not supervised, or is not the one that "
        "generation stops on.",
        examples=["drop"],
    )
    beginning_token: Policy = Field(
        default="error",
        description="More than one beginning-of-sequence token, or not as many as in the prompt.",
        examples=["drop"],
    )
    prompt_prefix: Policy = Field(
        default="error",
        description="A generation prompt whose tokens are not how the example begins.",
        examples=["drop"],
    )
    answer_text: Policy = Field(
        default="error",
        description="Supervised tokens that do not decode to exactly the answers.",
        examples=["drop"],
    )
    outside_answer: Policy = Field(
        default="error",
        description="Supervised tokens outside the answers.",
        examples=["drop"],
    )
    generation_marks: Policy = Field(
        default="error",
        description="Supervised tokens other than those that the chat template marks with "
        "{% generation %}, where it does.",
        examples=["warn"],
    )
    unknown_token: Policy = Field(
        default="warn",
        description="Text that the tokenizer knows no token for.",
        examples=["drop"],
    )
    vocabulary: StrictPolicy = Field(
        default="error",
        description="A token id beyond the base model's embedding.",
        examples=["drop"],
    )


class Leaks(Block):
    """Rows of different partitions that say the same: how they are found, what is done."""

    exact: LeakPolicy = Field(
        default="drop_from_train",
        description="A train row that equals a held-out row after Unicode and white space "
        "normalization.",
        examples=["error"],
    )
    near: LeakPolicy | Literal["ignore"] = Field(
        default="warn",
        description="A train row that is nearly a held-out row. ignore: not looked for.",
        examples=["drop_from_train"],
    )
    by: Annotated[tuple[Literal["prompt", "answer"], ...], Field(min_length=1, max_length=2)] = (
        Field(
            default=("prompt",),
            description="What the policies act on. Both kinds are counted and listed. Prompts are "
            "the same only with the same system message, tools and tool calls.",
            examples=[["prompt", "answer"]],
            json_schema_extra={"uniqueItems": True},
        )
    )
    threshold: Annotated[Number, Field(ge=0.5, le=0.99)] = Field(
        default=0.7,
        description="Jaccard similarity of character 5-grams from which two texts are nearly the "
        "same.",
        examples=[0.8],
    )
    shortest_answer: Annotated[int, Field(strict=True, ge=1, le=1_000_000), INTEGRAL] = Field(
        default=50,
        description="Answers of fewer characters are not compared: that many rows answer yes "
        "says nothing.",
        examples=[20],
    )


class Dataset(Block):
    """Where examples come from and what their columns mean."""

    source: Text | Annotated[tuple[Text | Source, ...], Field(min_length=1, max_length=1000)] = (
        Field(
            description="Path, glob or URL of .jsonl, .json, .csv or .parquet files (also "
            "compressed: .gz, .bz2, .xz, .zst), a Hugging Face Hub id, or a list of these. Paths "
            "are relative to this recipe.",
            examples=[
                "data/train.jsonl",
                ["data/a.jsonl", {"path": "data/b-*.parquet", "weight": 0.5}],
                "owner/dataset",
            ],
        )
    )
    split: Text = Field(
        default="train",
        description="Split of a Hub dataset to read.",
        examples=["train"],
    )
    revision: Text | None = Field(
        default=None,
        description="Branch, tag or commit of a Hub dataset; null for the newest. "
        "The lock records the commit.",
        examples=["main", None],
    )
    filter: Text | None = Field(
        default=None,
        description="Condition in Jinja over the row's columns; rows for which it is false are "
        "not read.",
        examples=["language == 'en'", None],
    )
    format: Text | None = Field(
        default=None,
        description="alpaca: columns instruction, input, output. messages: a list of {role, "
        "content}. sharegpt: a list of {from, value}. prompt_completion: columns prompt and "
        "completion. text: one column, trained on whole. Or that of an installed plug-in. "
        "null: found by the columns of the first row.",
        examples=["messages", None],
    )
    columns: Columns = Field(
        default=Columns(),
        description="Names of the columns, where they differ from the format's own.",
        examples=[{"instruction": "question", "input": None, "output": "answer"}],
    )
    partition: Partition = Field(
        default=Partition(),
        description="How rows are divided into train, validation and test.",
        examples=[{"by": "position", "train": 0.8, "validation": 0.1, "test": 0.1}],
    )
    violations: Violations = Field(
        default=Violations(),
        description="What happens to rows that break a rule of the label contract.",
        examples=[{"special_token_in_text": "escape", "empty_answer": "drop"}],
    )
    leaks: Leaks = Field(
        default=Leaks(),
        description="What happens to rows that occur in more than one partition.",
        examples=[{"exact": "error", "near": "drop_from_train", "threshold": 0.7}],
    )

    @property
    def sources(self) -> tuple[Source, ...]:
        """``source`` as a tuple of blocks, however it is written."""
        given = (self.source,) if isinstance(self.source, str) else self.source
        return tuple(Source(path=item) if isinstance(item, str) else item for item in given)

    @property
    def partition_names(self) -> tuple[PartitionName, ...]:
        """The partitions that get rows: those with a share, and those that sources name."""
        named = {source.partition for source in self.sources}
        divided = None in named
        names: tuple[PartitionName, ...] = ("train", "validation", "test")
        return tuple(n for n in names if n in named or (divided and getattr(self.partition, n) > 0))


class Template(Block):
    """How an example becomes text, and which of its tokens are supervised."""

    chat: Annotated[String, Field(pattern=r"^(tokenizer|chatml|none|.+\.jinja)$")] = Field(
        default="tokenizer",
        description="Chat template: tokenizer (the base model's own), chatml (built in), "
        "none (texts one after the other, ended by the end-of-sequence token), or the path of a "
        ".jinja file relative to this recipe.",
        examples=["tokenizer", "chatml", "templates/chat.jinja"],
    )
    system: Text | None = Field(
        default=None,
        description="System message in Jinja, over the row's columns; null for none.",
        examples=["You write short Python functions.", None],
    )
    thinking: Annotated[bool, Field(strict=True)] | None = Field(
        default=None,
        description="Whether a reasoning model is asked to think: given to the chat template as "
        "enable_thinking. null: as the chat template does by itself, or false where only that "
        "can be trained on.",
        examples=[False, None],
    )
    user: Text | None = Field(
        default=None,
        description="User message in Jinja (format alpaca). "
        "null: the instruction, then a blank line and the input where there is one.",
        examples=["{{ instruction }}\n\nInput: {{ input }}", None],
    )
    assistant: Text | None = Field(
        default=None,
        description="Assistant message in Jinja (format alpaca). null: the output.",
        examples=["{{ output }}", None],
    )
    loss_on: Literal["completion", "assistant_turns", "all"] = Field(
        default="completion",
        description="Which tokens are supervised. completion: the last assistant message. "
        "assistant_turns: every assistant message but those with `train: false`. "
        "all: the whole text.",
        examples=["assistant_turns"],
    )
    max_length: Count = Field(
        default=2048,
        description="Longest example, in tokens.",
        examples=[1024],
    )
    too_long: Literal["drop", "truncate", "error"] = Field(
        default="drop",
        description="What happens to a longer example. drop: left out, counted and listed. "
        "truncate: cut after the last whole answer that fits, counted and listed; dropped where "
        "none fits (loss_on: assistant_turns only: elsewhere there is one answer, and nothing to "
        "cut). error: the run stops.",
        examples=["error"],
    )


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


class DecodingBlock(Block):
    """How answers are generated: greedily, unless ``do_sample``."""

    max_new_tokens: Annotated[int, Field(strict=True, ge=1, le=1_000_000), INTEGRAL] = Field(
        default=256,
        description="Longest answer, in tokens.",
        examples=[128],
    )
    do_sample: Flag = Field(
        default=False,
        description="false: the likeliest token each time (greedy). true: drawn at random.",
        examples=[True],
    )
    temperature: Annotated[Number, Field(gt=0, le=100)] = Field(
        default=1.0,
        description="Below 1: closer to greedy. Only with do_sample: true.",
        examples=[0.2],
    )
    top_p: Annotated[Number, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Draw from the likeliest tokens that make up this share of the probability; "
        "1 for all. Only with do_sample: true.",
        examples=[0.9],
    )
    top_k: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000), INTEGRAL] = Field(
        default=0,
        description="Draw from the k likeliest tokens; 0 for all. Only with do_sample: true.",
        examples=[40],
    )
    repetition_penalty: Annotated[Number, Field(gt=0, le=100)] = Field(
        default=1.0,
        description="Above 1: tokens that occurred already become less likely.",
        examples=[1.1],
    )


class GenerationTask(Block):
    """Answers generated for a held-out partition, and the metrics that score them."""

    name: Annotated[String, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)] = Field(
        description="Name of the task; a gate names its figures as <name>.<figure>.",
        examples=["test-completions"],
    )
    data: HeldOut = Field(
        default="test",
        description="Partition whose examples are answered.",
        examples=["validation"],
    )
    limit: Count | None = Field(
        default=None,
        description="Answer only the first this many examples; null for all.",
        examples=[200, None],
    )
    decoding: DecodingBlock = Field(
        default=DecodingBlock(),
        description="How answers are generated.",
        examples=[{"max_new_tokens": 128}],
    )
    metrics: Annotated[tuple[Text, ...], Field(min_length=1, max_length=100)] = Field(
        description="Metrics that score the answers: exact_match, rouge, chrf, python_syntax, "
        "tests_passed, or those of an installed plug-in.",
        examples=[["rouge", "chrf"]],
        json_schema_extra={"uniqueItems": True},
    )


class Evaluation(Block):
    """What is measured of the adapter and, beside it, of the base model."""

    base: Flag = Field(
        default=True,
        description="Whether the base model is evaluated too, on the same tokens. "
        "Gates that compare with it need this.",
        examples=[True],
    )
    loss: tuple[HeldOut, ...] = Field(
        default=("validation", "test"),
        description="Partitions whose held-out loss is measured.",
        examples=[["test"]],
        json_schema_extra={"uniqueItems": True},
    )
    generation: Annotated[tuple[GenerationTask, ...], Field(max_length=100)] = Field(
        default=(),
        description="Tasks in which answers are generated and scored.",
        examples=[[{"name": "test-completions", "metrics": ["rouge"]}]],
    )
    samples: Annotated[tuple[Text, ...], Field(max_length=1000)] = Field(
        default=(),
        description="Prompts whose answers the report shows before and after training.",
        examples=[["Write a function that prints 'hello world' in python"]],
    )


class GateBlock(Block):
    """A claim about a figure that must hold before the adapter may be released."""

    metric: Text = Field(
        description="The figure, as <partition>.<figure> or <generation task>.<figure>; with "
        ".clean before the figure, on the rows alone that are in no other partition.",
        examples=["test.loss", "test-completions.rougeL", "test.clean.loss"],
    )
    claim: Claim = Field(
        description="superior: better than the base model (by margin). non_inferior: worse than "
        "the base model by less than margin. floor: above at. ceiling: below at.",
        examples=["superior"],
    )
    margin: Annotated[Number, Field(ge=0)] | None = Field(
        default=None,
        description="How much better (superior, optional) or worse at most (non_inferior, "
        "required), in the figure's own unit.",
        examples=[0.02, None],
    )
    at: Number | None = Field(
        default=None,
        description="The number that a floor or a ceiling is set at (required there).",
        examples=[1.2, None],
    )
    confidence: Annotated[Number, Field(ge=0.5, lt=1)] = Field(
        default=0.95,
        description="One-sided confidence with which the claim must hold.",
        examples=[0.99],
    )


class Release(Block):
    """What ``proofbox release`` packs."""

    contents: Literal["adapter"] = Field(
        default="adapter",
        description="The adapter alone, to be used on its base model.",
        examples=["adapter"],
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


class Recipe(Block):
    """A whole recipe, version 1."""

    version: Literal[1] = Field(
        description="Version of the recipe format; this proofbox reads 1.",
        examples=[1],
    )
    name: Annotated[String, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)] = Field(
        description="Name of the recipe: the folder of its runs, and of its release. "
        "Lower-case letters, digits, '.', '_' and '-'.",
        examples=["mistral-7b-gptq-code"],
    )
    description: String = Field(
        default="",
        description="One sentence for people: what the adapter is for.",
        examples=["LoRA on 4-bit Mistral-7B-Instruct for Python instructions"],
    )
    seed: Annotated[int, Field(strict=True, ge=0, le=4_294_967_295), INTEGRAL] = Field(
        default=42,
        description="Seed of everything drawn at random.",
        examples=[7],
    )
    dataset: Dataset = Field(
        description="Where examples come from and what their columns mean.",
        examples=[{"source": "data/train.jsonl"}],
    )
    template: Template = Field(
        default=Template(),
        description="How an example becomes text, and which tokens are supervised.",
        examples=[{"chat": "chatml", "max_length": 1024}],
    )
    model: Model = Field(
        description="The base model that the adapter is trained on.",
        examples=[{"base": "mistralai/Mistral-7B-Instruct-v0.2"}],
    )
    quantization: Quantization = Field(
        default=Quantization(),
        description="How the base model's weights are stored.",
        examples=[{"method": "gptq", "bits": 4}],
    )
    lora: Lora = Field(
        default=Lora(),
        description="The low-rank adapter.",
        examples=[{"r": 32, "alpha": 16, "target_modules": ["q_proj", "v_proj"]}],
    )
    training: Training = Field(
        description="The optimization.",
        examples=[{"max_steps": 300, "batch_size": 4, "learning_rate": 3e-4}],
    )
    evaluation: Evaluation = Field(
        default=Evaluation(),
        description="What is measured of the adapter and of the base model.",
        examples=[{"loss": ["test"]}],
    )
    gates: Annotated[tuple[GateBlock, ...], Field(max_length=100)] = Field(
        default=(),
        description="Claims that must all hold before the adapter may be released.",
        examples=[[{"metric": "test.loss", "claim": "superior", "margin": 0.05}]],
    )
    release: Release = Field(
        default=Release(),
        description="What a release contains.",
        examples=[{"contents": "adapter"}],
    )
    hardware: Hardware = Field(
        default=Hardware(),
        description="How this machine computes it; options of the command line win.",
        examples=[{"device": "cpu", "threads": 2}],
    )
