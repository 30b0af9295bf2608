"""What a self-test finds out about gradients, on a model that has just been trained for some steps.

Dropout and noise are off: so every way to compute a step must give the same gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from evalsuite.packed_attention import why_not_packed
from runner.training.lora import module_of
from runner.training.self_check import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    Check,
    largest_difference,
    not_applicable,
    passed,
    within,
)
from runner.training.training_rows import IGNORED, TrainingRow

if TYPE_CHECKING:
    from runner.training.step_engine import Layout, StepEngine

SHOWN = 5  # names of modules in a message
_TOKEN_ROWS = ".trainable_tokens_delta."
CUT = "gradients, examples apart against together"
PADDED_LOSS = "loss, padded against packed examples"
PADDED_GRADIENTS = "gradients, padded against packed examples"
LEARNING = "parts that should learn and get no gradient"
REPORT = "Report it with this table and the plan's lock.json: it should not be."
Gradients = dict[str, torch.Tensor]


def check_gradients(
    engine: StepEngine,
    rows: Sequence[TrainingRow],
    dtype: str,
    *,
    token_rows: Sequence[TrainingRow] = (),
    token_ids: Sequence[int] = (),
) -> list[Check]:
    """Check the gradients of ``engine`` on ``rows``, which are a few examples of unequal lengths.

    Args:
        engine: After its first steps: the adapter's matrices are no longer zero.
        rows: Few enough to be computed at once.
        dtype: Of the base model; it sets what is allowed.
        token_rows: More examples, in which trained tokens occur.
        token_ids: Of the trained tokens, in the recipe's order.
    """
    with _repeatable(engine):
        checks = [
            _check_cut(engine, rows, dtype),
            *_check_layouts(engine, rows, dtype),
            _check_learning(engine, [*rows, *token_rows], token_ids),
        ]
        _forget(engine)
    return checks


def _check_cut(engine: StepEngine, rows: Sequence[TrainingRow], dtype: str) -> Check:
    """transformers#34191: gradients of unequal parts, averaged, are not those of the whole."""
    if len(rows) == 1:
        return not_applicable(CUT, "the train partition has only one example")
    _, apart = _computed(engine, rows, [[place] for place in range(len(rows))])
    _, together = _computed(engine, rows, [list(range(len(rows)))])
    advice = (
        "What is learned would depend on how much is computed at once. Write "
        f"hardware.attention: padded and test again. {REPORT}"
    )
    allowed = GRADIENT_TOLERANCE[dtype]
    return within(CUT, largest_difference(apart, together), allowed, advice=advice)


def _check_layouts(engine: StepEngine, rows: Sequence[TrainingRow], dtype: str) -> list[Check]:
    """trl#805: examples that lie end to end once saw each other."""
    if engine.parts.noise is not None:
        engine.parts.noise.lengths = None  # of the rows before
    engine.inner.train()  # as it is in training: attention may have dropout then
    against = why_not_packed(engine.inner, max(len(row.input_ids) for row in rows))
    engine.inner.eval()
    if against is not None:
        reason = f"examples of this model are padded, not packed: {against}"
        return [not_applicable(name, reason) for name in (PADDED_LOSS, PADDED_GRADIENTS)]
    whole = [list(range(len(rows)))]
    padded_loss, padded = _computed(_laid_out(engine, "padded"), rows, whole)
    packed_loss, packed = _computed(_laid_out(engine, "packed"), rows, whole)
    difference = abs(packed_loss - padded_loss) / max(abs(padded_loss), 1e-30)
    advice = f"Examples may see each other. Write hardware.attention: padded. {REPORT}"
    gradients = largest_difference(packed, padded)
    return [
        within(PADDED_LOSS, difference, LOSS_TOLERANCE[dtype], advice=advice),
        within(PADDED_GRADIENTS, gradients, GRADIENT_TOLERANCE[dtype], advice=advice),
    ]


def _check_learning(
    engine: StepEngine, rows: Sequence[TrainingRow], token_ids: Sequence[int]
) -> Check:
    """Every adapter, whole module and token row that the recipe names has a gradient."""
    _computed(engine, rows, None)
    learning = dict(_learning(engine.inner))
    silent = {module_of(n) for n, t in learning.items() if t.grad is None or not t.grad.any()}
    tokens = set() if silent else set(_silent_tokens(learning, rows, token_ids))
    named = [*sorted(silent), *sorted(tokens)]
    shown = ", ".join(named[:SHOWN]) + (", …" if len(named) > SHOWN else "")
    return Check(
        name=LEARNING,
        found=f"{len(named)} of {len({module_of(name) for name in learning})}",
        allowed="none",
        outcome=passed(bool(learning) and not named),
        advice=f"No gradient: {shown}. Nothing is learned there. Leave it out of the lora block, "
        "or choose another quantization.kernel: some are for inference only.",
    )


def _learning(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Everything of the adapter, frozen by mistake or not, and whatever else is trained."""
    adapter = (".lora_", ".modules_to_save.default.", _TOKEN_ROWS)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or any(part in f".{name}" for part in adapter):
            yield name, parameter


def _silent_tokens(
    learning: Mapping[str, torch.nn.Parameter],
    rows: Sequence[TrainingRow],
    token_ids: Sequence[int],
) -> Iterator[str]:
    """Trained tokens that stand before a learned token in ``rows``, and get no gradient."""
    seen = {token for row in rows for token in row.input_ids[: _last_learned(row)].tolist()}
    for name, parameter in learning.items():
        if _TOKEN_ROWS not in f".{name}" or parameter.grad is None:
            continue
        learned = parameter.grad.any(dim=1).tolist()  # a row for each trained token
        for token, has in zip(token_ids, learned, strict=True):
            if token in seen and not has:
                yield f"token {token} in {module_of(name)}"


def _last_learned(row: TrainingRow) -> int:
    return int((row.labels != IGNORED).nonzero().max())


def _computed(
    engine: StepEngine, rows: Sequence[TrainingRow], cut: list[list[int]] | None
) -> tuple[float, Gradients]:
    """Loss and gradients of ``rows`` as one step."""
    _forget(engine)
    supervised = sum(int((row.labels[1:] != IGNORED).sum()) for row in rows)
    loss = engine.gradients(rows, supervised=supervised, cut=cut)
    found = {
        name: parameter.grad.detach().clone()
        for name, parameter in engine.inner.named_parameters()
        if parameter.grad is not None
    }
    return loss.item(), found


def _laid_out(engine: StepEngine, layout: Layout) -> StepEngine:
    """The same engine with another layout."""
    other = copy.copy(engine)
    other.parts = replace(engine.parts, layout=layout)
    return other


def _forget(engine: StepEngine) -> None:
    for parameter in engine.inner.parameters():
        parameter.grad = None


@contextmanager
def _repeatable(engine: StepEngine) -> Iterator[None]:
    """Without dropout and noise, which are drawn anew each time."""
    training = engine.inner.training
    engine.model.eval()
    try:
        yield
    finally:
        engine.model.train(training)
