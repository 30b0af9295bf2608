"""Rules across keys about how it is learned: model, LoRA, training, hardware."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from runner.recipe_reading.dataset_rules import is_local, sources_of, why_no_rows
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_view import RecipeView

# Quantization and model


def folder_has_no_revision(recipe: RecipeView) -> Iterator[Finding]:
    """A revision is named for a Hub model alone."""
    base = recipe.value("model", "base")
    if is_local(base) and recipe.value("model", "revision") is not None:
        message = "this has no effect: only Hub models have revisions. Remove it."
        yield Finding(path=("model", "revision"), message=message, at_key=True)


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
    if every is not None and (reason := why_no_rows(recipe, "validation")):
        message = sentences(
            f"there is nothing to validate on: {reason[0]}", f"{reason[1]}, or remove this."
        )
        yield Finding(path=("training", "validate_every"), message=message, at_key=True)


def validation_is_not_test(recipe: RecipeView) -> Iterator[Finding]:
    """Rows that settings are chosen by cannot also be those that gates judge by."""
    seen: dict[tuple[object, ...], str] = {}
    for source in sources_of(recipe):
        partition = source.get("partition")
        rows = (source.name, *(source.get(key) for key in ("split", "filter", "limit")))
        if partition not in ("validation", "test"):
            continue
        if seen.setdefault(rows, partition) != partition:
            message = sentences(
                f"{source.name} is both validation and test: what is chosen by validation would "
                "be judged by the same rows",
                "Give validation rows of its own.",
            )
            yield Finding(path=(*source.path, "partition"), message=message)


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
    folder_has_no_revision,
    gptq_has_bits,
    gptq_options_need_gptq,
    gptq_computes_in_half,
    triton_fits,
    variant_fits_gptq,
    dropout_leaves_something,
    targets_can_match,
    length_is_given_once,
    validation_has_rows,
    validation_is_not_test,
    micro_batch_divides_batch,
)
