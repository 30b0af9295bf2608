"""How answers are generated, taken apart, scored and run: what tasks and benchmarks share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from runner.recipe.blocks import INTEGRAL, Block, Count, Flag, Number, String, Text


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
