"""Rules across keys about what is learned: data, template, model, LoRA, training, hardware."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import PurePath

from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_view import RecipeView

PARTITIONS = ("train", "validation", "test")
_FORMAT_COLUMNS = {
    "alpaca": ("instruction", "input", "output", "tests"),
    "messages": ("messages", "tests"),
}
_LOCAL_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_ROUNDING = 1e-9


# Dataset


def shares_sum_to_one(recipe: RecipeView) -> Iterator[Finding]:
    """The shares of train, validation and test make up all rows."""
    path = ("dataset", "partition")
    shares = {name: float(recipe.value(*path, name)) for name in PARTITIONS}
    total = sum(shares.values())
    if abs(total - 1) > _ROUNDING:
        parts = " + ".join(
            f"{name} {share:g}{'' if recipe.gives(*path, name) else ' (default)'}"
            for name, share in shares.items()
        )
        yield Finding(path=path, message=f"{parts} is {total:g}, and must be 1", at_key=True)


def columns_fit_format(recipe: RecipeView) -> Iterator[Finding]:
    """Only columns that the format has are named."""
    format_name = recipe.value("dataset", "format")
    known = _FORMAT_COLUMNS[format_name]
    for column in ("instruction", "input", "output", "messages"):
        path = ("dataset", "columns", column)
        if recipe.gives(*path) and column not in known:
            message = f"this has no effect: format {format_name} has the columns {', '.join(known)}"
            yield Finding(path=path, message=message, at_key=True)


def columns_differ(recipe: RecipeView) -> Iterator[Finding]:
    """The answer's column is none of the columns that make the prompt."""
    if recipe.value("dataset", "format") != "alpaca":
        return
    output = recipe.value("dataset", "columns", "output")
    for part in ("instruction", "input"):
        if recipe.value("dataset", "columns", part) == output:
            message = f"{output!r} is also the column of {part}: the prompt would hold the answer"
            at = "output" if recipe.gives("dataset", "columns", "output") else part
            yield Finding(path=("dataset", "columns", at), message=message)


def files_have_no_revision(recipe: RecipeView) -> Iterator[Finding]:
    """Splits and revisions are named for Hub datasets alone."""
    source = recipe.value("dataset", "source")
    if not all(map(_is_local, source if isinstance(source, list) else [source])):
        return
    for key, default in (("split", "train"), ("revision", None)):
        if recipe.value("dataset", key) != default:
            message = f"this has no effect: only Hub datasets have {key}s. Remove it."
            yield Finding(path=("dataset", key), message=message, at_key=True)


def folder_has_no_revision(recipe: RecipeView) -> Iterator[Finding]:
    """A revision is named for a Hub model alone."""
    base = recipe.value("model", "base")
    if _is_local(base) and recipe.value("model", "revision") is not None:
        message = "this has no effect: only Hub models have revisions. Remove it."
        yield Finding(path=("model", "revision"), message=message, at_key=True)


def _is_local(source: str) -> bool:
    """Whether ``source`` can only be a path: the Hub has no such names."""
    return source.startswith((".", "/", "~")) or PurePath(source).suffix in _LOCAL_SUFFIXES


# Template


def turns_belong_to_rows(recipe: RecipeView) -> Iterator[Finding]:
    """With format messages the rows hold the turns, and no template makes them."""
    if recipe.value("dataset", "format") == "alpaca":
        return
    for key in ("user", "assistant"):
        if recipe.value("template", key) is not None:
            message = sentences(
                "this has no effect with dataset.format: messages",
                "The rows hold the turns themselves. Remove it.",
            )
            yield Finding(path=("template", key), message=message, at_key=True)


def system_template_is_jinja(recipe: RecipeView) -> Iterator[Finding]:
    """template.system is Jinja and does not give the answer away."""
    yield from _template_findings(recipe, "system")


def user_template_is_jinja(recipe: RecipeView) -> Iterator[Finding]:
    """template.user is Jinja and does not give the answer away."""
    yield from _template_findings(recipe, "user")


def assistant_template_is_jinja(recipe: RecipeView) -> Iterator[Finding]:
    """template.assistant is Jinja and renders the answer."""
    yield from _template_findings(recipe, "assistant")


def _template_findings(recipe: RecipeView, key: str) -> Iterator[Finding]:
    source = recipe.value("template", key)
    if source is None:
        return
    path = ("template", key)
    names = _names_in_template(source)
    if isinstance(names, str):
        yield Finding(path=path, message=names)
    elif recipe.value("dataset", "format") == "alpaca":
        yield from _alpaca_names(recipe, path, names)


def _names_in_template(source: str) -> frozenset[str] | str:
    """The names that a Jinja template uses, or what keeps it from being one."""
    if "{" not in source:
        return frozenset()
    # Takes 30 ms to import, and most recipes have no template.
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    try:
        # Parsed and not compiled: compiling computes constants, such as "a" * 9999999999.
        parsed = environment.parse(source)
        names = frozenset(name.name for name in parsed.find_all(nodes.Name) if name.ctx == "load")
        filters = [node.name for node in parsed.find_all(nodes.Filter)]
    except TemplateSyntaxError as error:
        problem = (error.message or "unknown problem").rstrip(".")
        problem = problem[0].lower() + problem[1:]
        return f"this is not Jinja (line {error.lineno} of the text): {problem}"
    except RecursionError:
        return "this is nested too deeply for Jinja"
    unknown = next((name for name in filters if name not in environment.filters), None)
    if unknown is not None:
        near = did_you_mean(unknown, environment.filters)
        return sentences(f"Jinja has no filter {unknown!r}", near)
    return names


def _alpaca_names(recipe: RecipeView, path: KeyPath, names: frozenset[str]) -> Iterator[Finding]:
    if path[-1] == "assistant" and "output" not in names:
        message = sentences(
            "this never renders the answer",
            "Write {{ output }} in it: that is the answer, whatever its column is called.",
        )
        yield Finding(path=path, message=message)
    if path[-1] != "assistant" and "output" in names:
        message = "this uses output: the prompt would hold the answer. Remove it."
        yield Finding(path=path, message=message)
    if "input" in names and recipe.value("dataset", "columns", "input") is None:
        message = "this uses input, and dataset.columns.input is null. Remove one of the two."
        yield Finding(path=path, message=message)


# Quantization and model


def gptq_has_bits(recipe: RecipeView) -> Iterator[Finding]:
    """A GPTQ checkpoint says how many bits it has."""
    gptq = recipe.value("quantization", "method") == "gptq"
    if gptq and recipe.value("quantization", "bits") is None:
        message = "method gptq needs bits. Add the checkpoint's own, for example bits: 4"
        yield Finding(path=("quantization",), message=message, at_key=True)


def gptq_options_need_gptq(recipe: RecipeView) -> Iterator[Finding]:
    """Bits and kernel are given for a GPTQ checkpoint alone."""
    if recipe.value("quantization", "method") == "gptq":
        return
    for key, default in (("bits", None), ("kernel", "auto")):
        if recipe.value("quantization", key) != default:
            message = sentences(
                "this has no effect with quantization.method: none",
                "Write method: gptq if the base model is a GPTQ checkpoint.",
            )
            yield Finding(path=("quantization", key), message=message, at_key=True)


def gptq_computes_in_half(recipe: RecipeView) -> Iterator[Finding]:
    """GPTQ kernels compute in 16 bits."""
    gptq = recipe.value("quantization", "method") == "gptq"
    if gptq and recipe.value("model", "dtype") == "float32":
        message = sentences(
            "float32 excludes quantization.method: gptq",
            "Its kernels compute in float16 or bfloat16.",
        )
        yield Finding(path=("model", "dtype"), message=message)


def triton_fits(recipe: RecipeView) -> Iterator[Finding]:
    """The Triton kernel runs on a GPU, and not with 3 bits."""
    if recipe.value("quantization", "kernel") != "triton":
        return
    path = ("quantization", "kernel")
    if recipe.value("hardware", "device") == "cpu":
        message = "triton needs a GPU, and hardware.device is cpu. Use torch or auto."
        yield Finding(path=path, message=message)
    if recipe.value("quantization", "bits") == 3:  # noqa: PLR2004 - gptqmodel: 2, 4 or 8
        yield Finding(path=path, message="triton cannot compute with 3 bits. Use torch or auto.")


# LoRA


def variant_fits_gptq(recipe: RecipeView) -> Iterator[Finding]:
    """DoRA and PiSSA read the base model's weights, which a GPTQ checkpoint has packed."""
    variant = recipe.value("lora", "variant")
    gptq = recipe.value("quantization", "method") == "gptq"
    if gptq and variant in ("dora", "pissa"):
        message = sentences(
            f"{variant} excludes quantization.method: gptq",
            "It needs the base model's own weights. Use lora or rslora.",
        )
        yield Finding(path=("lora", "variant"), message=message)


def dropout_leaves_something(recipe: RecipeView) -> Iterator[Finding]:
    """Some of the adapter's inputs are left."""
    if recipe.value("lora", "dropout") == 1:
        message = "1 zeroes every input of the adapter, and nothing is learned. Use less than 1."
        yield Finding(path=("lora", "dropout"), message=message)


def targets_can_match(recipe: RecipeView) -> Iterator[Finding]:
    """A text under target_modules is all-linear or a regular expression over whole paths."""
    targets = recipe.value("lora", "target_modules")
    if isinstance(targets, list) or targets == "all-linear":
        return
    message = _about_expression(targets)
    if message:
        yield Finding(path=("lora", "target_modules"), message=message)


def _about_expression(targets: str) -> str | None:
    near = did_you_mean(targets, ["all-linear"])
    if near:
        return sentences(f"unknown name {targets!r}", near)
    if re.fullmatch(r"[\w\s,]+", targets):
        names = ", ".join(re.split(r"[\s,]+", targets.strip(" ,")))
        what = "a text is a regular expression for a module's whole path, and this matches none"
        return sentences(what, f"Write a list of names: [{names}].")
    try:
        with warnings.catch_warnings(action="ignore"):  # "possible nested set" is no fault
            re.compile(targets)
    except (re.error, RecursionError, OverflowError) as error:
        return f"this is not a regular expression: {error}"
    return None


# Training


def length_is_given_once(recipe: RecipeView) -> Iterator[Finding]:
    """Training ends after max_steps or after epochs."""
    steps, epochs = recipe.value("training", "max_steps"), recipe.value("training", "epochs")
    if steps is None and epochs is None:
        message = "neither max_steps nor epochs is given. Add one, for example max_steps: 300"
        yield Finding(path=("training",), message=message, at_key=True)
    elif steps is not None and epochs is not None:
        message = (
            "max_steps is given too, and only one of the two can end the training. Remove one."
        )
        yield Finding(path=("training", "epochs"), message=message, at_key=True)


def validation_has_rows(recipe: RecipeView) -> Iterator[Finding]:
    """Validation during training has a partition to validate on."""
    every = recipe.value("training", "validate_every")
    if every is not None and recipe.value("dataset", "partition", "validation") == 0:
        message = sentences(
            "there is nothing to validate on: dataset.partition.validation is 0",
            "Give it a share, or remove this.",
        )
        yield Finding(path=("training", "validate_every"), message=message, at_key=True)


def micro_batch_divides_batch(recipe: RecipeView) -> Iterator[Finding]:
    """An optimizer step is made of whole micro-batches."""
    batch = recipe.value("training", "batch_size")
    micro = recipe.value("hardware", "micro_batch_size")
    if micro != "auto" and int(batch) % int(micro):
        divisors = [n for n in range(1, min(int(batch), 4096) + 1) if int(batch) % n == 0]
        shown = ", ".join(map(str, divisors))
        message = (
            f"{micro} does not divide training.batch_size {batch}. Use one of {shown}, or auto."
        )
        yield Finding(path=("hardware", "micro_batch_size"), message=message)


LEARNING_RULES = (
    shares_sum_to_one,
    columns_fit_format,
    columns_differ,
    files_have_no_revision,
    folder_has_no_revision,
    turns_belong_to_rows,
    system_template_is_jinja,
    user_template_is_jinja,
    assistant_template_is_jinja,
    gptq_has_bits,
    gptq_options_need_gptq,
    gptq_computes_in_half,
    triton_fits,
    variant_fits_gptq,
    dropout_leaves_something,
    targets_can_match,
    length_is_given_once,
    validation_has_rows,
    micro_batch_divides_batch,
)
