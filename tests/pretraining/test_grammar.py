"""What is written does what is meant, in all its ways, and always the same for one seed."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from pretraining.conditions import CONDITIONS
from pretraining.corpus import documents
from pretraining.dataset import held_out
from pretraining.forms import Atom, Form, bracketed
from pretraining.grammar import draw_header, draw_program, source_lines
from pretraining.mappings import MAPPINGS
from pretraining.phrasebook import PHRASES, Voice
from pretraining.program import Program, argument_sets, behaviour, outcome, sentence

ROOT = Path(__file__).resolve().parents[2]


def run(source: str, function: str, arguments: tuple[object, ...]) -> str:
    """The representation of the result, or the name of the error."""
    names: dict[str, object] = {}
    exec(source, names)
    try:
        return repr(names[function](*copy.deepcopy(arguments)))
    except (ArithmeticError, IndexError, TypeError, ValueError, KeyError) as error:
        return type(error).__name__


@pytest.mark.parametrize("seed", range(8))
def test_every_way_to_write_a_program_gives_the_reference_result(seed: int) -> None:
    rng = Random(f"written forms {seed}")
    for _ in range(120):
        program = draw_program(rng)
        calls = argument_sets(program, rng, 5)
        for _ in range(3):
            header, scope = draw_header(rng, program)
            source = "\n".join(source_lines(rng, program, header, scope))
            for call in calls:
                assert run(source, header.function, call) == outcome(program, call), source


def test_a_program_is_said_without_leftover_marks() -> None:
    rng = Random("wording")
    for _ in range(500):
        program = draw_program(rng)
        header, _ = draw_header(rng, program)
        for unseen in (0.0, 1.0):
            clauses = program.clauses(Voice(rng, unseen), header)
            for third_person in (False, True):
                said = sentence(clauses, third_person=third_person)
                assert not set("~{}") & set(said), said
                assert "  " not in said.replace("'  '", ""), said


def test_verbs_take_the_third_person() -> None:
    clauses = ["~take x", "~multiply it by 3", "~upper-case it", "~go on", "~return it"]
    assert sentence(clauses, third_person=True) == (
        "takes x, multiplies it by 3, upper-cases it, goes on and returns it"
    )
    assert sentence(["~return x"]) == "return x"


def test_all_families_are_drawn() -> None:
    rng = Random("families")
    families = {type(draw_program(rng)).__name__ for _ in range(300)}
    assert families == {"Stream", "Chain", "Ladder", "Entries", "Repetition", "Recurrence"}


def test_brackets_only_where_an_operand_needs_them() -> None:
    assert bracketed("x") == "x"
    assert bracketed("abs(x + 1)") == "abs(x + 1)"
    assert bracketed("x + 1") == "(x + 1)"
    assert bracketed("-x") == "(-x)"
    assert bracketed("(x) + (y)") == "((x) + (y))"


@pytest.mark.parametrize("form", [*CONDITIONS, *MAPPINGS], ids=lambda form: form.name)
def test_phrases_of_a_form_use_its_constants(form: Form) -> None:
    constants = tuple(choices[i] for i, choices in enumerate(form.draws))
    for name, said in ((form.name, form.says), (f"{form.name} participle", form.participles)):
        for phrase in (*said, *PHRASES.get(name, ())):
            for place in range(len(constants)):
                assert f"{{{place}}}" in phrase, phrase
    assert Atom(form, constants).key


def test_near_misses_are_other_specifications() -> None:
    rng = Random("near misses")
    for _ in range(300):
        program: Program = draw_program(rng)
        assert all(miss.key != program.key for miss in program.near_misses())
        assert all(miss.parameters == program.parameters for miss in program.near_misses())


def test_the_corpus_does_not_depend_on_hash_randomization() -> None:
    code = (
        "import hashlib; from pretraining.corpus import documents; from itertools import islice;"
        "text = ''.join(islice(documents(7, frozenset()), 200));"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_the_corpus_is_the_one_that_the_weights_were_trained_on() -> None:
    """A change of the grammar is welcome, and then tokenizer and weights are made anew."""
    import hashlib

    text = "".join(documents(1003, frozenset()))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "3b47db7dc7010eaa43e6fa67cc1e9dfa55ad78819ac75bcec202c147056fadcb"


def test_a_held_out_behaviour_is_drawn_again() -> None:
    rng = Random("corpus 1 shard 5")
    rng.choice((1, 1, 2, 3, 4))
    first = behaviour(draw_program(rng))
    before = next(documents(5, frozenset()))
    after = next(documents(5, frozenset([first])))
    assert before != after


def test_the_data_set_has_thousands_of_behaviours() -> None:
    assert len(held_out()) == 3000
