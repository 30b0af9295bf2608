"""The block ``dataset``: where rows come from, what their columns mean, how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.blocks import (
    INTEGRAL,
    Block,
    Count,
    Fraction,
    Number,
    PartitionName,
    Policy,
    StrictPolicy,
    Text,
)

LeakPolicy = Literal["error", "drop_from_train", "warn"]


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
