"""A benchmark: in a file of its own, or inside ``evaluation.benchmarks``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.answers import DecodingBlock, ExtractBlock, MetricBlock, StopStrings
from runner.recipe.blocks import INTEGRAL, Block, Count, String, Text
from runner.recipe.dataset import Rows, Source


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
