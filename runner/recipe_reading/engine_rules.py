"""Rules across keys about what generates answers, and how often."""

from __future__ import annotations

import re
from collections.abc import Iterator

from evalsuite.catalogue import on_all_rows
from runner.data.reading.urls import secret_in
from runner.recipe_reading.benchmark_rules import BENCHMARKS
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.metric_rules import TASKS
from runner.recipe_reading.recipe_view import RecipeView

ENGINE = ("evaluation", "engine")
SERVER = ("evaluation", "server")
# What OpenAI's completions interface has no key for, and the value that needs none.
_NOT_OF_THE_INTERFACE = {"top_k": 0, "repetition_penalty": 1}
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
# The largest rank that vLLM makes room for.
_HIGHEST_RANK = 512


def engine_has_its_server(recipe: RecipeView) -> Iterator[Finding]:
    """The engine openai needs a server, and the others have none."""
    engine, given = recipe.value(*ENGINE), _has_server(recipe)
    if engine == "openai" and not given:
        message = sentences(
            "openai needs a server",
            "Add evaluation.server with url and adapter_model, and base_model too.",
        )
        yield Finding(path=ENGINE, message=message)
    if engine != "openai" and given:
        message = f"this has no effect with engine: {engine}. Write engine: openai."
        yield Finding(path=SERVER, message=message, at_key=True)


def _has_server(recipe: RecipeView) -> bool:
    """Whether a server is described, even where something about it is wrong."""
    return any(recipe.gives(*SERVER, key) for key in ("url", "base_model", "adapter_model"))


def served_models_differ(recipe: RecipeView) -> Iterator[Finding]:
    """A server has a name for the base model where that is evaluated, and one for the adapter."""
    if recipe.value(*ENGINE) != "openai" or not _has_server(recipe):
        return
    base, adapter = (recipe.value(*SERVER, key) for key in ("base_model", "adapter_model"))
    if base is None and recipe.value("evaluation", "base"):
        message = sentences(
            "evaluation.base is true, and base_model does not say what the server calls it",
            "Add base_model, or write evaluation.base: false.",
        )
        yield Finding(path=SERVER, message=message)
    if base == adapter:
        message = f"{adapter} is also base_model: it would be compared with itself"
        yield Finding(path=(*SERVER, "adapter_model"), message=message)


def server_holds_no_secret(recipe: RecipeView) -> Iterator[Finding]:
    """A recipe is committed and stored with its runs: no key may be in it.

    The message never repeats what was written.
    """
    if not _has_server(recipe):
        return
    name = recipe.value(*SERVER, "api_key_env")
    if name is not None and not _VARIABLE.fullmatch(name):
        message = sentences(
            "this is no name of an environment variable",
            "Never write the key itself here. Name the variable that holds it, for example "
            "EVALUATION_API_KEY.",
        )
        yield Finding(path=(*SERVER, "api_key_env"), message=message)
    secret = secret_in(recipe.value(*SERVER, "url"))
    if secret is not None:
        message = sentences(
            f"this URL holds {secret}, and a recipe is stored with each of its runs",
            "Remove it: a key comes from the environment (api_key_env).",
        )
        yield Finding(path=(*SERVER, "url"), message=message)


# What an adapter can have besides matrices of one rank and scale.
_NOT_LOW_RANK = {
    "rank_pattern": "ranks that differ between modules",
    "alpha_pattern": "scales that differ between modules",
    "modules_to_save": "modules that are trained whole",
    "trained_tokens": "trained rows of the embedding",
}


def vllm_runs_the_adapter(recipe: RecipeView) -> Iterator[Finding]:
    """The engine vllm runs adapters that are low-rank matrices and nothing else."""
    if recipe.value(*ENGINE) != "vllm":
        return
    variant, bias, rank = (recipe.value("lora", key) for key in ("variant", "bias", "r"))
    advice = "Use evaluation.engine: transformers."
    if variant == "dora":
        yield Finding(
            path=("lora", "variant"),
            message=sentences("evaluation.engine vllm has no DoRA", advice),
        )
    if bias != "none":
        message = sentences("evaluation.engine vllm runs no trained biases", advice)
        yield Finding(path=("lora", "bias"), message=message)
    for key, what in _NOT_LOW_RANK.items():
        if recipe.value("lora", key):
            message = sentences(f"evaluation.engine vllm runs no {what}", advice)
            yield Finding(path=("lora", key), message=message, at_key=True)
    # PiSSA is saved as a plain adapter of twice the rank.
    stored = 2 * rank if variant == "pissa" else rank
    if stored > _HIGHEST_RANK:
        told = f"evaluation.engine vllm runs ranks up to {_HIGHEST_RANK}, and this is {stored}"
        yield Finding(path=("lora", "r"), message=sentences(told, advice))


def several_answers_are_drawn(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Greedy answers to one prompt are all the same."""
    path = (*TASKS, index, "answers")
    if not recipe.gives(*path) or recipe.value(*path) == 1:
        return
    if not recipe.value(*TASKS, index, "decoding", "do_sample"):
        message = sentences(
            "greedy answers to one prompt are all the same",
            "Set decoding.do_sample: true, or remove this.",
        )
        yield Finding(path=path, message=message)


def server_takes_the_decoding(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A server without vLLM's extensions has no key for some of decoding."""
    if recipe.value(*ENGINE) != "openai" or not _has_server(recipe):
        return
    if recipe.value(*SERVER, "extensions") == "vllm":
        return
    path = (*TASKS, index, "decoding")
    for key, neutral in _NOT_OF_THE_INTERFACE.items():
        if recipe.value(*path, key) != neutral:
            message = sentences(
                "OpenAI's completions interface has no such key",
                "Remove this, or write evaluation.server.extensions: vllm for a server that "
                "takes it.",
            )
            yield Finding(path=(*path, key), message=message, at_key=True)


def served_answers_gate_nothing(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """No gate judges answers of a server: nothing proves that it runs what would be released."""
    if recipe.value(*ENGINE) != "openai":
        return
    group = on_all_rows(recipe.value("gates", index, "metric")).rpartition(".")[0]
    answered = {
        recipe.value(*block, at, "name")
        for block in (TASKS, BENCHMARKS)
        for at in range(recipe.count(*block))
        if block == TASKS or recipe.value(*block, at, "kind") == "generation"
    }
    if group in answered:
        message = sentences(
            f"{group} is answered by a server, and nothing proves that it runs the adapter that "
            "would be released",
            "Use evaluation.engine: transformers or vllm, or judge a loss.",
        )
        yield Finding(path=("gates", index, "metric"), message=message)


ENGINE_RULES = (
    engine_has_its_server,
    served_models_differ,
    server_holds_no_secret,
    vllm_runs_the_adapter,
)
ENGINE_TASK_RULES = (several_answers_are_drawn, server_takes_the_decoding)
ENGINE_GATE_RULES = (served_answers_gate_nothing,)
