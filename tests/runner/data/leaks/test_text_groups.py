from __future__ import annotations

import random
from collections import defaultdict

import numpy as np

from runner.data.leaks.text_groups import group_texts


def test_groups_are_those_of_equal_keys() -> None:
    """Keys that share one half only are different; a zero key is no text."""
    chance = random.Random(3)
    keys = np.array([[chance.randrange(3), chance.randrange(3)] for _ in range(300)], np.uint64)
    codes = np.array([chance.randrange(4) for _ in range(300)], dtype=np.int8)
    expected = defaultdict(list)
    for place, key in enumerate(map(tuple, keys.tolist())):
        if key != (0, 0):
            expected[key].append(place)
    groups = group_texts(keys, codes, 4)
    assert len(groups) == len(expected) == 8
    flags = np.array([chance.random() < 0.5 for _ in range(300)])
    for number, place in enumerate(groups.first_places.tolist()):
        members = expected[tuple(keys[place].tolist())]
        assert int(groups.totals(flags)[number]) == sum(flags[members])
        only = np.arange(8) == number
        for code in range(4):
            of_code = [place for place in members if codes[place] == code]
            assert groups.members(number, code).tolist() == of_code
            assert groups.counts[number, code] == len(of_code)
            assert groups.rows_of(only, code, codes).tolist() == of_code


def test_no_rows() -> None:
    groups = group_texts(np.zeros((0, 2), np.uint64), np.zeros(0, np.int8), 3)
    assert len(groups) == 0
    assert groups.first_places.tolist() == [] == groups.totals(np.zeros(0, bool)).tolist()
