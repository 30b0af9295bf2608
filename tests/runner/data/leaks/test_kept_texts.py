from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from runner.data.leaks.kept_texts import KeptTexts


def table(pairs: list[tuple[str, str]]) -> pa.Table:
    return pa.table({"question": [q for q, _ in pairs], "answer": [a for _, a in pairs]})


def test_texts_come_back_by_row_number_in_any_order(tmp_path: Path) -> None:
    pairs = {
        3: ("naïve?", "日本語 🙂"),
        5: ("", "an answer"),
        9: ("a question", ""),
        0: ("x\x00y", "\u202e"),
    }
    kept = KeptTexts(tmp_path / "texts", rows=10)
    rows = list(pairs)
    kept.add(np.array(rows[:2]), table([pairs[row] for row in rows[:2]]))
    assert kept.texts([5, 3, 5]) == [pairs[5], pairs[3], pairs[5]]
    kept.add(np.array(rows[2:]), table([pairs[row] for row in rows[2:]]))
    assert kept.texts([9, 0, 5, 3]) == [pairs[9], pairs[0], pairs[5], pairs[3]]
    kept.add(np.array([], dtype=np.int64), table([]).cast(pa.schema(
        [("question", pa.string()), ("answer", pa.string())]
    )))  # fmt: skip
    assert kept.texts([]) == []
    kept.remove()
    assert not list(tmp_path.iterdir())


def test_a_row_that_was_not_added_is_an_error(tmp_path: Path) -> None:
    kept = KeptTexts(tmp_path / "texts", rows=4)
    kept.add(np.array([1]), table([("q", "a")]))
    with pytest.raises(KeyError):
        kept.texts([2])
    kept.remove()
