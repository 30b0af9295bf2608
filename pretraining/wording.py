"""How a program becomes text: documents to pretrain on, and instructions with answers."""

from __future__ import annotations

from random import Random

from pretraining.checks import Checks, call_text
from pretraining.grammar import draw_header, source_lines
from pretraining.phrasebook import Voice
from pretraining.program import Header, Program, argument_sets, sentence

_PROSE = (
    "{f} {third}.",
    "The function {f} {third}.",
    "{signature} {third}.",
    "To {plain}:",
    "How do we {plain}? With {f}.",
    "Next, {f}: {plain}.",
    "A helper to {plain}.",
    "The code below {third}.",
    "In short, {signature} {third}.",
)
_INSTRUCTIONS = (
    "Write a function {f} that {third}.",
    "Write a Python function called {f}. It should {plain}.",
    "Define {signature} so that it {third}.",
    "Implement a function {f} which {third}.",
    "I need a function named {f}: {plain}.",
    "Create the function {signature}. It {third}.",
    "Please give me a function {f} to {plain}.",
    "Code {f} in Python so that it {third}.",
    "Your task is {signature}: {plain}.",
    "Can you write {f}? It must {plain}.",
)
_USES = ("assert {call} == {result}", "print({call})  # {result}", ">>> {call}\n{result}")


def function_text(rng: Random, program: Program) -> str:
    """One function with its docstring, comment or sentence, and perhaps a use of it."""
    header, scope = draw_header(rng, program)
    lines = source_lines(rng, program, header, scope)
    words = _words(Voice(rng), program, header)
    match rng.choice(("docstring", "docstring", "comment", "prose", "prose", "inside", "after")):
        case "docstring":
            lines.insert(1, f'    """{_capital(rng.choice((words["plain"], words["third"])))}."""')
        case "comment":
            lines.insert(0, f"# {_capital(rng.choice((words['plain'], words['third'])))}.")
        case "inside":
            lines.insert(1, f"    # {words['plain']}")
        case "after":
            lines += ["", f"# {header.function} {words['third']}."]
        case _:
            lines = [rng.choice(_PROSE).format(**words), "", *lines]
    if rng.random() < 0.35:
        lines += ["", *_uses(rng, program, header)]
    return "\n".join(lines)


def document(rng: Random, programs: list[Program]) -> str:
    """Functions one after the other, as in a module."""
    gap = rng.choice(("\n\n", "\n\n\n"))
    return gap.join(function_text(rng, program) for program in programs) + "\n"


def instruction_row(rng: Random, program: Program, checks: Checks, unseen: float) -> dict[str, str]:
    """An Alpaca row with tests; a share ``unseen`` of its phrases is new to the base."""
    header, scope = draw_header(rng, program)
    words = _words(Voice(rng, unseen), program, header)
    call = min(checks.calls, key=lambda arguments: abs(len(repr(arguments)) - 14))
    given = rng.choice(
        (
            "",
            "",
            f"Signature: {header.signature}",
            f"Example: {call_text(header.function, call)} returns {program.means(*call)!r}",
        )
    )
    return {
        "instruction": rng.choice(_INSTRUCTIONS).format(**words),
        "input": given,
        "output": "\n".join(source_lines(rng, program, header, scope)),
        "tests": checks.source(header.function),
    }


def _words(voice: Voice, program: Program, header: Header) -> dict[str, str]:
    clauses = program.clauses(voice, header)
    return {
        "f": header.function,
        "signature": header.signature,
        "plain": sentence(clauses),
        "third": sentence(clauses, third_person=True),
    }


def _uses(rng: Random, program: Program, header: Header) -> list[str]:
    calls = argument_sets(program, rng, rng.randint(1, 2))
    style = rng.choice(_USES)
    return [
        style.format(call=call_text(header.function, call), result=repr(program.means(*call)))
        for call in calls
    ]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:] if text[0].islower() else text
