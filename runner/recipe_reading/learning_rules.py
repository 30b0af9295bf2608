"""Rules across keys about how it is learned: model, training, hardware; LoRA has its own."""

from __future__ import annotations

from collections.abc import Iterator

from runner.recipe_reading.dataset_rules import is_local, sources_of, why_no_rows
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.lora_rules import LORA_RULES
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


LEARNING_RULES = (
    folder_has_no_revision,
    gptq_has_bits,
    gptq_options_need_gptq,
    gptq_computes_in_half,
    triton_fits,
    *LORA_RULES,
    length_is_given_once,
    validation_has_rows,
    validation_is_not_test,
)
