"""What generates the answers of an evaluation, as a recipe names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalsuite.records import EngineSpec, EvaluationSpec, ServerSpec, Subject
from runner.plan import Plan, judges_whole_model
from runner.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evalsuite.generation import Engine


def engine_spec(recipe: Recipe) -> EngineSpec:
    """The recipe's engine and server as the eval suite's records."""
    server = recipe.evaluation.server
    return EngineSpec(
        name=recipe.evaluation.engine,
        server=None if server is None else ServerSpec(**server.model_dump()),
    )


def generation_tokens(recipe: Recipe) -> int | None:
    """Most tokens in one batch of generated answers; None: as many as memory allows."""
    wanted = recipe.hardware.batch_tokens
    return wanted if isinstance(wanted, int) else None


def other_engine(
    plan: Plan,
    subject: Subject,
    spec: EvaluationSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> Engine | None:
    """The engine that answers instead of the live ``model``; None where that does it itself.

    Raises:
        EvaluationError: A package is missing, or the engine cannot run this subject.
    """
    if spec.engine.name == "transformers":
        return None
    from evalsuite.generation import EngineSubject, open_engine

    whole = subject == "adapter" and judges_whole_model(plan)
    outside = plan.target if whole else None
    return open_engine(
        spec.engine,
        EngineSubject(
            subject=subject,
            model=model,
            tokenizer=tokenizer,
            base=plan.model.place if outside is None else str(outside.place),
            revision=plan.model.revision if outside is None else None,
            adapter=plan.folder.adapter if subject == "adapter" and not whole else None,
            trust_remote_code=plan.recipe.model.trust_remote_code,
        ),
    )
