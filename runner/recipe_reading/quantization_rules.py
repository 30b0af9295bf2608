"""Rules across the keys of the block ``quantization``, and between it and others."""

from __future__ import annotations

from collections.abc import Iterator

from runner.base_model.quantization.checks import listed, why_not
from runner.base_model.quantization.method import VARIANT_NEEDS, Storage
from runner.base_model.quantization.registry import METHODS, method_named, storage_of
from runner.recipe import Quantization
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.recipe_view import RecipeView


def method_has_bits(recipe: RecipeView) -> Iterator[Finding]:
    """Every method but none stores weights in a number of bits that the recipe says."""
    method = recipe.value("quantization", "method")
    if method == "none" or recipe.value("quantization", "bits") is not None:
        return
    able = listed([str(bits) for bits in method_named(method).trainable_bits], "or")
    message = f"method {method} needs bits. Write bits: {able}."
    yield Finding(path=("quantization",), message=message, at_key=True)


def bits_can_be_trained(recipe: RecipeView) -> Iterator[Finding]:
    """The method stores weights in so many bits, and they give gradients."""
    method, bits = recipe.value("quantization", "method"), recipe.value("quantization", "bits")
    if method == "none" or bits is None:
        return
    storage = storage_of(method, bits)
    if storage is None or storage.untrainable:
        yield Finding(path=("quantization", "bits"), message=f"{bits}: {why_not(method, bits)}")


def options_have_effect(recipe: RecipeView) -> Iterator[Finding]:
    """Options of one method are not given with another."""
    method = recipe.value("quantization", "method")
    for key, field in Quantization.model_fields.items():
        if key == "method" or key in method_named(method).options:
            continue
        default = field.default.model_dump() if key == "calibration" else field.default
        if not recipe.gives("quantization", key) or recipe.value("quantization", key) == default:
            continue
        takers = [name for name in METHODS if key in method_named(name).options]
        message = sentences(
            f"this has no effect with quantization.method: {method}",
            f"Only {listed(takers)} {'has' if len(takers) == 1 else 'have'} it.",
        )
        yield Finding(path=("quantization", key), message=message, at_key=True)


def device_and_dtype_fit(recipe: RecipeView) -> Iterator[Finding]:
    """The method computes on the recipe's device, in the type of the base model."""
    storage = _storage(recipe)
    if storage is None:
        return
    device, dtype = recipe.value("hardware", "device"), recipe.value("model", "dtype")
    method = recipe.value("quantization", "method")
    able = {str(name): dtypes for name, dtypes in storage.dtypes.items()}
    if device != "auto" and device not in able:
        message = f"quantization.method: {method} does not run there. Use {listed(list(able))}."
        yield Finding(path=("hardware", "device"), message=message)
        return
    places = able if device == "auto" else {device: able[device]}
    if dtype != "auto" and not any(dtype in dtypes for dtypes in places.values()):
        dtypes = next(iter(places.values()))
        message = sentences(
            f"{dtype} excludes quantization.method: {method} on {listed(list(places))}",
            f"It computes in {listed(list(dtypes), 'or')} there.",
        )
        yield Finding(path=("model", "dtype"), message=message)


def kernel_fits(recipe: RecipeView) -> Iterator[Finding]:
    """The Triton kernel runs on a GPU alone."""
    triton = recipe.value("quantization", "kernel") == "triton"
    if triton and recipe.value("hardware", "device") == "cpu":
        message = "triton needs a GPU, and hardware.device is cpu. Use torch or auto."
        yield Finding(path=("quantization", "kernel"), message=message)


def calibration_cuts_something(recipe: RecipeView) -> Iterator[Finding]:
    """No prepared row is longer than template.max_length."""
    most = recipe.value("quantization", "calibration", "max_length")
    longest = recipe.value("template", "max_length")
    if most is not None and most > longest:
        message = sentences(
            f"this cuts nothing: rows have at most template.max_length, {longest}, tokens",
            "Write less, or remove it.",
        )
        yield Finding(path=("quantization", "calibration", "max_length"), message=message)


def variant_fits(recipe: RecipeView) -> Iterator[Finding]:
    """DoRA and PiSSA read the base model's weights, which quantization may have packed."""
    storage, variant = _storage(recipe), recipe.value("lora", "variant")
    if storage is None or storage.untrainable or variant in storage.variants:
        return
    method, bits = recipe.value("quantization", "method"), recipe.value("quantization", "bits")
    message = sentences(
        f"{variant} excludes quantization.method: {method} with bits: {bits}",
        f"{VARIANT_NEEDS[variant]} Use {listed(list(storage.variants), 'or')}.",
    )
    yield Finding(path=("lora", "variant"), message=message)


def _storage(recipe: RecipeView) -> Storage | None:
    """How the recipe's base is stored, None where it does not say so rightly."""
    return storage_of(recipe.value("quantization", "method"), recipe.value("quantization", "bits"))


QUANTIZATION_RULES = (
    method_has_bits,
    bits_can_be_trained,
    options_have_effect,
    device_and_dtype_fit,
    kernel_fits,
    calibration_cuts_something,
    variant_fits,
)
