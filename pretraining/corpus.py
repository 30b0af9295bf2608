"""The text to pretrain on, in shards that can be made in parallel and in any order."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from pretraining.grammar import draw_program
from pretraining.program import behaviour
from pretraining.wording import document

SEED = "corpus 1"
DOCUMENTS_PER_SHARD = 1000


def documents(shard: int, held_out: frozenset[str]) -> Iterator[str]:
    """The documents of one shard: one to four functions each, none behaving as a held-out one."""
    rng = Random(f"{SEED} shard {shard}")
    for _ in range(DOCUMENTS_PER_SHARD):
        programs = []
        for _ in range(rng.choice((1, 1, 2, 3, 4))):
            while behaviour(program := draw_program(rng)) in held_out:
                pass
            programs.append(program)
        yield document(rng, programs)
