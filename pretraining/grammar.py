"""The grammar: one draw gives a random program of one of the families."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pretraining.chains import draw_chain
from pretraining.entries import draw_entries
from pretraining.ladders import draw_ladder
from pretraining.names import Scope, function_name, parameter_names
from pretraining.program import Header, Program
from pretraining.recurrences import draw_recurrence
from pretraining.repetitions import draw_repetition
from pretraining.streams import draw_stream

_FAMILIES: tuple[tuple[Callable[[Random], Program], int], ...] = (
    (draw_stream, 55),
    (draw_chain, 15),
    (draw_ladder, 10),
    (draw_entries, 10),
    (draw_repetition, 5),
    (draw_recurrence, 5),
)


def draw_program(rng: Random) -> Program:
    """A random specification; the same state of ``rng`` gives the same one."""
    drawers, weights = zip(*_FAMILIES, strict=True)
    program: Program = rng.choices(drawers, weights=weights)[0](rng)
    return program


def draw_header(rng: Random, program: Program) -> tuple[Header, Scope]:
    """A name for the function and its parameters, and the scope that holds them."""
    function = function_name(rng, program.hints)
    scope = Scope([function])
    return Header(
        function=function, parameters=parameter_names(rng, program.parameters, scope)
    ), scope


def source_lines(rng: Random, program: Program, header: Header, scope: Scope) -> list[str]:
    """The function's lines, ``def`` first."""
    body = program.body(rng, header, scope)
    return [f"def {header.signature}:", *("    " + line for line in body)]
