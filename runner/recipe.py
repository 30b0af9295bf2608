"""The recipe: what is learned, from which data, how it is judged. One source of the JSON Schema.

Everything here is a frozen value. Rules that span several keys live in ``recipe_rules``; reading a
file with line numbers lives in ``recipe_file``. Paths stay as written: they are relative to the
recipe's file, and whoever opens them resolves them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
    slice: Text | None = Field(
        default=None,
        description="Column by whose values the held-out loss is also reported, such as a topic.",
        examples=["topic", None],
    )
    cluster: Text | None = Field(
        default=None,
        description="Column whose equal values depend on each other, such as questions about one "
        "document: intervals then count them as one. null: partition.group where that is given, "
        "else every row by itself.",
        examples=["document", None],
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


class Rows(Block):
    """Where rows come from and what their columns mean."""

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
    violations: Violations = Field(
        default=Violations(),
        description="What happens to rows that break a rule of the label contract.",
        examples=[{"special_token_in_text": "escape", "empty_answer": "drop"}],
    )

    @property
    def sources(self) -> tuple[Source, ...]:
        """``source`` as a tuple of blocks, however it is written."""
        given = (self.source,) if isinstance(self.source, str) else self.source
        return tuple(Source(path=item) if isinstance(item, str) else item for item in given)


class Dataset(Rows):
    """Where examples come from, what their columns mean, and how they are divided."""

    partition: Partition = Field(
        default=Partition(),
        description="How rows are divided into train, validation and test.",
        examples=[{"by": "position", "train": 0.8, "validation": 0.1, "test": 0.1}],
    )
    leaks: Leaks = Field(
        default=Leaks(),
        description="What happens to rows that occur in more than one partition.",
        examples=[{"exact": "error", "near": "drop_from_train", "threshold": 0.7}],
    )

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


class MetricBlock(Block):
    """A metric with options. Each option belongs to the metrics that its description names."""

    # Also where a recipe is stored again, so that what is stored is a recipe.
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    name: Text | None = Field(
        default=None,
        description="A metric by name: one of proofbox or of an installed plug-in, or hub: and a "
        "name on the Hugging Face Hub, or hub: and the path of a folder of the evaluate library.",
        examples=["exact_match", "hub:accuracy", "hub:./metrics/wer", None],
    )
    file: Annotated[String, Field(pattern=r"^.+\.py:[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        default=None,
        description="A metric of your own: a Python file relative to this recipe, a colon, and the "
        "name of the class in it. Instead of name.",
        examples=["metrics/mine.py:MyMetric", None],
    )
    renamed: Annotated[String, Field(pattern=r"^[A-Za-z][A-Za-z0-9_@-]*$")] | None = Field(
        alias="as",
        default=None,
        description="Name of its figure; of a metric with several figures, what their names begin "
        "with. null: as the metric calls them.",
        examples=["exact_match_ignoring_case", None],
    )
    ignore: tuple[
        Literal["case", "number_format", "punctuation", "articles", "whitespace"], ...
    ] = Field(
        default=(),
        description="What makes no difference (exact_match). number_format: 1,000 is 1000.0. "
        "punctuation: that of ASCII. articles: a, an, the. whitespace: how much of it. "
        "White space at the ends never does.",
        examples=[["case", "punctuation", "articles", "whitespace"]],
        json_schema_extra={"uniqueItems": True},
    )
    stemmer: Flag = Field(
        default=False,
        description="true: words are reduced to their stems first, by Porter's rules for English "
        "(rouge).",
        examples=[True],
    )
    tokenize: Literal["13a", "intl", "char", "zh", "none"] = Field(
        default="13a",
        description="How sacrebleu finds words (bleu).",
        examples=["intl"],
    )
    lowercase: Flag = Field(
        default=False,
        description="true: upper and lower case are the same (bleu, chrf).",
        examples=[True],
    )
    word_order: Annotated[int, Field(strict=True, ge=0, le=6), INTEGRAL] = Field(
        default=0,
        description="Longest n-gram of words that counts, beside those of characters (chrf). "
        "2 is chrF++.",
        examples=[2],
    )
    case_sensitive: Flag = Field(
        default=False,
        description="true: a word in another case is another word (ter).",
        examples=[True],
    )
    json_schema: Text | dict[str, Any] | None = Field(
        alias="schema",
        default=None,
        description="The JSON Schema that answers must follow (json_schema): written here, or a "
        ".json file relative to this recipe.",
        examples=["schemas/answer.json", {"type": "object", "required": ["name"]}, None],
    )
    k: Annotated[tuple[Count, ...], Field(min_length=1, max_length=20)] = Field(
        default=(1,),
        description="Of how many answers one must be right (pass_at_k); each gives a figure, "
        "pass@1 and so on.",
        examples=[[1, 10]],
        json_schema_extra={"uniqueItems": True},
    )
    of: Text = Field(
        default="tests_passed",
        description="The figure that says which answers are right (pass_at_k). Its metric is one "
        "of the same task.",
        examples=["exact_match"],
    )
    figure: Text | None = Field(
        default=None,
        description="Which key of its result counts (hub: metrics, which need it).",
        examples=["accuracy", None],
    )
    smaller_is_better: Flag = Field(
        default=False,
        description="true: less of it is better (hub: metrics).",
        examples=[True],
    )
    revision: Text | None = Field(
        default=None,
        description="Branch, tag or commit (hub: metrics on the Hub, which need it: their code may "
        "change).",
        examples=["main", None],
    )
    options: dict[String, Any] = Field(
        default={},
        description="What its constructor (plug-ins and files) or its compute method (hub: "
        "metrics) takes.",
        examples=[{"threshold": 0.5}],
    )


class ExtractionBlock(Block):
    """Which part of a text is scored; what is not found is an empty text."""

    after: Text | None = Field(
        default=None,
        description="All up to the end of this text is cut off first.",
        examples=["The answer is", None],
    )
    preset: Literal["last_number", "last_line", "last_boxed", "code_block", "json"] | None = Field(
        default=None,
        description="last_number: the number after ####, else the last one, without $ and "
        "thousands' commas. last_line: the last that is not empty. last_boxed: what the last "
        "\\boxed{} holds. code_block: what a code fence holds. json: an object or a list.",
        examples=["last_number", None],
    )
    regex: Text | None = Field(
        default=None,
        description="A regular expression of Python, in place of a preset.",
        examples=["Answer: ([A-D])", None],
    )
    group: Annotated[int, Field(strict=True, ge=0, le=99), INTEGRAL] | None = Field(
        default=None,
        description="Which group of the regular expression counts. null: the first, or all that "
        "was matched where there is none.",
        examples=[2, None],
    )
    take: Literal["first", "last"] = Field(
        default="first",
        description="Which counts where after, regex, code_block or json is found several times.",
        examples=["last"],
    )


class ExtractBlock(ExtractionBlock):
    """Which part of an answer is scored, and of a reference; what is not found is an empty text."""

    reference: ExtractionBlock | None = Field(
        default=None,
        description="Which part of each reference is compared with; null for all of it.",
        examples=[{"preset": "last_number"}, None],
    )


# A server with OpenAI's interface takes four at most.
StopStrings = Annotated[tuple[Text, ...], Field(max_length=4)]


class Server(Block):
    """A server with OpenAI's completions interface, and what it calls the models."""

    url: Annotated[String, Field(pattern=r"^https?://\S+$")] = Field(
        description="Where it is, up to and with the version: no key and no password in it.",
        examples=["http://127.0.0.1:8000/v1"],
    )
    base_model: Text | None = Field(
        default=None,
        description="What the server calls the base model; null with evaluation.base: false.",
        examples=["mistralai/Mistral-7B-Instruct-v0.2", None],
    )
    adapter_model: Text = Field(
        description="What the server calls the base model with the adapter on it.",
        examples=["my-adapter"],
    )
    api_key_env: Text | None = Field(
        default=None,
        description="Name of the environment variable that holds the API key; null for no key. "
        "The key itself is nowhere stored.",
        examples=["EVALUATION_API_KEY", None],
    )
    prompts: Literal["tokens", "text"] = Field(
        default="tokens",
        description="tokens: prompts are sent as token ids, which leaves nothing open. text: for "
        "servers that take only text.",
        examples=["text"],
    )
    extensions: Literal["none", "vllm"] = Field(
        default="none",
        description="vllm: the server also takes what vLLM adds to the interface: top_k, "
        "repetition_penalty, stop tokens; and tells token ids.",
        examples=["vllm"],
    )
    timeout: Annotated[Number, Field(gt=0, le=86_400)] = Field(
        default=300,
        description="Seconds that one request may take.",
        examples=[60],
    )
    retries: Annotated[int, Field(strict=True, ge=0, le=20), INTEGRAL] = Field(
        default=4,
        description="How often a request that failed for a passing reason is sent again.",
        examples=[8],
    )
    concurrency: Annotated[int, Field(strict=True, ge=1, le=1024), INTEGRAL] = Field(
        default=8,
        description="Requests that are under way at once.",
        examples=[64],
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
    stop: StopStrings = Field(
        default=(),
        description="Texts that end an answer and are no part of it, beside the stop tokens. They "
        "are looked for in the answer, not in the reasoning before it.",
        examples=[["\n\n", "Question:"]],
        json_schema_extra={"uniqueItems": True},
    )
    answers: Annotated[int, Field(strict=True, ge=1, le=10_000), INTEGRAL] = Field(
        default=1,
        description="Answers to each prompt, each drawn for itself. More than 1 only with "
        "do_sample: true. Their scores are averaged over the prompt.",
        examples=[10],
    )
    extract: ExtractBlock | None = Field(
        default=None,
        description="Which part of each answer is scored; null for all of it.",
        examples=[{"preset": "last_number", "reference": {"preset": "last_number"}}, None],
    )
    metrics: Annotated[tuple[Text | MetricBlock, ...], Field(min_length=1, max_length=100)] = Field(
        description="Metrics that score the answers, by name or with options: exact_match, "
        "token_f1, rouge, bleu, chrf, ter, json_valid, json_schema, python_syntax, tests_passed, "
        "pass_at_k, those of an installed plug-in, hub: metrics, or files of your own.",
        examples=[["rouge", {"name": "chrf", "word_order": 2}]],
        json_schema_extra={"uniqueItems": True},
    )


class HeldOutSet(Block):
    """Rows of their own whose loss is measured: neutral text, other tasks."""

    name: Annotated[String, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)] = Field(
        description="Name of the set; a gate names its figures as <name>.<figure>.",
        examples=["neutral"],
    )
    data: Rows = Field(
        description="Where its rows come from.",
        examples=[{"source": "data/neutral.jsonl", "format": "text"}],
    )
    template: Template | None = Field(
        default=None,
        description="How its rows become text; null: as the recipe's own rows.",
        examples=[{"loss_on": "all"}, None],
    )
    divergence: Flag = Field(
        default=False,
        description="true: also measure kl, the Kullback-Leibler divergence of the adapter from "
        "the base model on every supervised token, in nats.",
        examples=[True],
    )


class FewShot(Block):
    """Rows that are shown with their answers before each row that is asked."""

    count: Annotated[int, Field(strict=True, ge=1, le=100), INTEGRAL] = Field(
        description="How many rows are shown.",
        examples=[5],
    )
    source: (
        Text | Annotated[tuple[Text | Source, ...], Field(min_length=1, max_length=1000)] | None
    ) = Field(
        default=None,
        description="Where they come from: rows like those of the benchmark's dataset. "
        "null: the recipe's train partition.",
        examples=["data/shots.jsonl", [{"path": "data/a.jsonl", "limit": 5}], None],
    )
    by: Literal["position", "hash"] = Field(
        default="hash",
        description="position: the first ones. hash: chosen by content and the recipe's seed. "
        "A row that asks what is asked is never shown; the next one is.",
        examples=["position"],
    )
    shown: Literal["turns", "text"] = Field(
        default="turns",
        description="turns: as earlier turns of the conversation. text: in the user's message, "
        "before what is asked.",
        examples=["text"],
    )
    separator: String = Field(
        default="\n\n",
        description="Text after each of them. Only with shown: text.",
        examples=["\n\n"],
    )


class Choices(Block):
    """What a multiple choice question offers. Give one of column, columns and texts."""

    column: Text | None = Field(
        default=None,
        description="Column with the list of the choices' texts.",
        examples=["choices", None],
    )
    columns: Annotated[tuple[Text, ...], Field(min_length=2, max_length=100)] | None = Field(
        default=None,
        description="Columns with the text of one choice each.",
        examples=[["a", "b", "c", "d"], None],
    )
    texts: Annotated[tuple[Text, ...], Field(min_length=2, max_length=100)] | None = Field(
        default=None,
        description="The choices' texts, where they are the same for every row.",
        examples=[["yes", "no"], None],
    )
    gold: Text = Field(
        description="Column that says which choice is right.",
        examples=["answer"],
    )
    gold_is: Literal["index", "letter", "text"] = Field(
        default="index",
        description="What that column holds. index: its number. letter: A for the first. "
        "text: its text.",
        examples=["letter"],
    )
    first_index: Literal[0, 1] = Field(
        default=0,
        description="The number of the first choice. Only with gold_is: index.",
        examples=[1],
    )


class Benchmark(Block):
    """Questions of their own, and how the answers to them are scored."""

    name: Annotated[String, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)] = Field(
        description="Name of the benchmark; a gate names its figures as <name>.<figure>.",
        examples=["gsm8k-style"],
    )
    description: String = Field(
        default="",
        description="One sentence for people: what is asked.",
        examples=["Grade-school mathematics in words, five shots"],
    )
    kind: Literal["generation", "multiple_choice"] = Field(
        default="generation",
        description="generation: answers are generated, and scored by metrics. multiple_choice: "
        "the likeliest choice is the answer; the figures are accuracy and accuracy_per_byte.",
        examples=["multiple_choice"],
    )
    dataset: Rows = Field(
        description="Where its rows come from. Paths are relative to the file that this is in.",
        examples=[{"source": "data/questions.jsonl"}],
    )
    skip: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000), INTEGRAL] = Field(
        default=0,
        description="Leave out the first this many rows.",
        examples=[2500],
    )
    limit: Count | None = Field(
        default=None,
        description="Ask only this many rows, after those that are skipped; null for all.",
        examples=[200, None],
    )
    chat: Annotated[String, Field(pattern=r"^(tokenizer|chatml|none|.+\.jinja)$")] | None = Field(
        default=None,
        description="Chat template, as template.chat of a recipe: tokenizer, chatml, none, or the "
        "path of a .jinja file. null: the recipe's.",
        examples=["none", None],
    )
    system: Text | None = Field(
        default=None,
        description="System message in Jinja, over the row's columns; null for none.",
        examples=["You solve problems step by step.", None],
    )
    prompt: Text | None = Field(
        default=None,
        description="User message in Jinja (format alpaca). "
        "null: the instruction, then a blank line and the input where there is one.",
        examples=["Question: {{ instruction }}\nAnswer:", None],
    )
    answer: Text | None = Field(
        default=None,
        description="The right answer in Jinja (format alpaca): what metrics compare with, and "
        "what few-shot rows show. null: the output.",
        examples=["{{ output }}", None],
    )
    delimiter: String = Field(
        default="",
        description="Text before each choice, and before each answer of few-shot rows that are "
        "shown as text.",
        examples=[" "],
    )
    max_length: Count = Field(
        default=4096,
        description="Longest prompt with its answer, in tokens.",
        examples=[2048],
    )
    too_long: Literal["drop", "error"] = Field(
        default="error",
        description="What happens to a longer one. drop: left out, counted and listed. "
        "error: the run stops.",
        examples=["drop"],
    )
    few_shot: FewShot | None = Field(
        default=None,
        description="Rows that are shown with their answers first; null for none.",
        examples=[{"count": 5, "source": "data/shots.jsonl"}, None],
    )
    choices: Choices | None = Field(
        default=None,
        description="The choices of kind multiple_choice.",
        examples=[{"columns": ["a", "b", "c", "d"], "gold": "answer", "gold_is": "letter"}, None],
    )
    decoding: DecodingBlock = Field(
        default=DecodingBlock(),
        description="How answers are generated (kind generation).",
        examples=[{"max_new_tokens": 128}],
    )
    stop: StopStrings = Field(
        default=(),
        description="Texts that end an answer and are no part of it (kind generation), as those "
        "of a task under evaluation.generation.",
        examples=[["\n\n", "Question:"]],
        json_schema_extra={"uniqueItems": True},
    )
    answers: Annotated[int, Field(strict=True, ge=1, le=10_000), INTEGRAL] = Field(
        default=1,
        description="Answers to each prompt (kind generation). More than 1 only with "
        "do_sample: true.",
        examples=[10],
    )
    extract: ExtractBlock | None = Field(
        default=None,
        description="Which part of each answer is scored (kind generation); null for all of it.",
        examples=[{"preset": "last_number", "reference": {"preset": "last_number"}}, None],
    )
    metrics: Annotated[tuple[Text | MetricBlock, ...], Field(max_length=100)] = Field(
        default=(),
        description="Metrics that score the answers (kind generation), as those of a task under "
        "evaluation.generation.",
        examples=[["exact_match"]],
        json_schema_extra={"uniqueItems": True},
    )
    leaks: Literal["warn", "error", "ignore"] = Field(
        default="warn",
        description="What happens where a train row asks what is asked here, or nearly. warn: "
        "listed, and figures are also reported without such rows. error: the run stops. "
        "ignore: not looked for.",
        examples=["error"],
    )


class LmEval(Block):
    """Tasks of EleutherAI's lm-evaluation-harness (extra lm-eval), with its own scores."""

    tasks: Annotated[tuple[Text, ...], Field(min_length=1, max_length=100)] = Field(
        description="Names of tasks or groups of tasks; a gate names their figures as "
        "<task>.<metric>, or <task>.<metric>-<filter> where a task has filters.",
        examples=[["arc_easy", "my_task"]],
        json_schema_extra={"uniqueItems": True},
    )
    include_path: Text | None = Field(
        default=None,
        description="Folder of task files of one's own, relative to this recipe. Paths of data in "
        "them are relative to it. Python code in it is run. null for none.",
        examples=["lm_eval_tasks", None],
    )
    num_fewshot: Annotated[int, Field(strict=True, ge=0, le=100), INTEGRAL] | None = Field(
        default=None,
        description="How many rows are shown with their answers; null: as each task says.",
        examples=[5, None],
    )
    limit: Count | None = Field(
        default=None,
        description="Ask only the first this many rows of each task; null for all.",
        examples=[200, None],
    )
    apply_chat_template: Flag = Field(
        default=False,
        description="Whether prompts are rendered by the recipe's chat template.",
        examples=[True],
    )
    fewshot_as_multiturn: Flag = Field(
        default=True,
        description="Whether shown rows are turns of their own. Only with "
        "apply_chat_template: true.",
        examples=[False],
    )
    system: Text | None = Field(
        default=None,
        description="System message before every prompt; null for none.",
        examples=["You answer in one word.", None],
    )
    batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536), INTEGRAL] = Field(
        default=8,
        description="Rows computed at once.",
        examples=[32],
    )
    leaks: Literal["warn", "ignore"] = Field(
        default="warn",
        description="What happens where a train row asks what a task asks, or nearly. warn: "
        "listed, and figures are also reported without such rows. ignore: not looked for.",
        examples=["ignore"],
    )


class CodeExecutionBlock(Block):
    """Where answers' code is run, and what each program may use."""

    backend: Literal["bubblewrap", "podman", "docker", "subprocess"] = Field(
        description="bubblewrap: name spaces of Linux. podman, docker: a container each. "
        "subprocess: limits alone; it is unsafe, since programs can read and write what you can. "
        "Another one is never taken instead.",
        examples=["bubblewrap"],
    )
    tests: Literal["beside", "apart"] = Field(
        default="beside",
        description="beside: the tests run in the answer's process. apart: in another one, which "
        "calls the answer's functions; plain values alone pass, so that an answer cannot reach "
        "the verdict or lie about being equal. Tests that need its classes cannot run apart.",
        examples=["apart"],
    )
    seconds: Annotated[int, Field(strict=True, ge=1, le=3600), INTEGRAL] = Field(
        default=3,
        description="CPU time of a program; on the clock it has three times as much and 2 seconds.",
        examples=[10],
    )
    memory_mb: Annotated[int, Field(strict=True, ge=64, le=1_000_000), INTEGRAL] = Field(
        default=512,
        description="Memory of each process, in MiB.",
        examples=[1024],
    )
    processes: Annotated[int, Field(strict=True, ge=0, le=1000), INTEGRAL] = Field(
        default=0,
        description="Further processes and threads that a program may start.",
        examples=[4],
    )
    file_mb: Annotated[int, Field(strict=True, ge=1, le=10_000), INTEGRAL] = Field(
        default=1,
        description="Largest file that a program may write, and most that it may print, in MiB.",
        examples=[10],
    )
    disk_mb: Annotated[int, Field(strict=True, ge=2, le=100_000), INTEGRAL] = Field(
        default=8,
        description="All files of a program together, in MiB of memory. subprocess cannot hold it.",
        examples=[64],
    )
    image: Text | None = Field(
        default=None,
        description="Image that has a python (podman, docker); it must be there already. "
        "null: the official one of this Python's version.",
        examples=["docker.io/library/python:3.11-slim", None],
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
    held_out: Annotated[tuple[HeldOutSet, ...], Field(max_length=100)] = Field(
        default=(),
        description="Further sets of rows whose held-out loss is measured. None of their rows is "
        "trained on.",
        examples=[
            [{"name": "neutral", "data": {"source": "data/neutral.jsonl"}, "divergence": True}]
        ],
    )
    generation: Annotated[tuple[GenerationTask, ...], Field(max_length=100)] = Field(
        default=(),
        description="Tasks in which answers are generated and scored.",
        examples=[[{"name": "test-completions", "metrics": ["rouge"]}]],
    )
    benchmarks: Annotated[tuple[Text | Benchmark, ...], Field(max_length=100)] = Field(
        default=(),
        description="Benchmarks: files of their own relative to this recipe, or written here.",
        examples=[["benchmarks/gsm8k-style.yaml"]],
    )
    lm_eval: LmEval | None = Field(
        default=None,
        description="Tasks of the lm-evaluation-harness; null for none.",
        examples=[{"tasks": ["arc_easy"]}, None],
    )
    code_execution: CodeExecutionBlock | None = Field(
        default=None,
        description="Where answers' code is run; needed by tests_passed and pass_at_k. null: "
        "nowhere, but for the quickstart's own data, whose answers run with limits alone.",
        examples=[{"backend": "bubblewrap"}, None],
    )
    instrument_check: Annotated[int, Field(strict=True, ge=0, le=1_000_000), INTEGRAL] = Field(
        default=32,
        description="So many examples of each partition and task are evaluated twice, in other "
        "batches: what differs is rounding, and a gate finer than it is refused. 0: none.",
        examples=[100],
    )
    engine: Literal["transformers", "vllm", "openai"] = Field(
        default="transformers",
        description="What generates answers. vllm: in this process, from the base model's and the "
        "adapter's folders (pip install 'proofbox[vllm]'). openai: a server of your own; no gate "
        "may judge its answers, because nothing proves what it runs.",
        examples=["vllm"],
    )
    server: Server | None = Field(
        default=None,
        description="The server of engine: openai; null for the other engines.",
        examples=[
            {
                "url": "http://127.0.0.1:8000/v1",
                "base_model": "mistralai/Mistral-7B-Instruct-v0.2",
                "adapter_model": "my-adapter",
                "extensions": "vllm",
            },
            None,
        ],
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
    against: Literal["base", "release"] = Field(
        default="base",
        description="What superior and non_inferior compare with. base: the base model. release: "
        "the adapter of this recipe that was released last (or release.previous).",
        examples=["release"],
    )
    first_release: Literal["inconclusive", "allow"] = Field(
        default="inconclusive",
        description="What holds of a gate against the last release while there is none. allow: it "
        "passes, so that a first adapter can be released by the other gates.",
        examples=["allow"],
    )


class Release(Block):
    """What ``proofbox release`` packs."""

    contents: Literal["adapter"] = Field(
        default="adapter",
        description="The adapter alone, to be used on its base model.",
        examples=["adapter"],
    )
    previous: Text | None = Field(
        default=None,
        description="Folder of the release that gates with against: release compare with, relative "
        "to this recipe. null: the last one of this recipe among its runs.",
        examples=["../releases/2026-03", None],
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
