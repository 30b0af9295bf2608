"""The block ``evaluation``: what is measured of the adapter and of its base."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.answers import (
    CodeExecutionBlock,
    DecodingBlock,
    ExtractBlock,
    MetricBlock,
    Server,
    StopStrings,
)
from runner.recipe.benchmark import Benchmark
from runner.recipe.blocks import INTEGRAL, Block, Count, Flag, HeldOut, String, Text
from runner.recipe.dataset import Rows
from runner.recipe.template import Template


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
        description="Further sets of rows whose held-out loss is measured. Rows that are in train "
        "too are listed, and left out of <name>.clean.<figure>.",
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
