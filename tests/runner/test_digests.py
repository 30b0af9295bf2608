from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest

from runner.digests import digest_of_json, digest_of_lines, file_digest, text_digest


def test_file_digest_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_equal_values_have_equal_digests_whatever_their_order() -> None:
    assert digest_of_json({"b": [1, "é"], "a": None}) == digest_of_json({"a": None, "b": [1, "é"]})
    assert digest_of_json({"a": 1}) != digest_of_json({"a": "1"})


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of_json(math.nan)


def test_a_membership_digest_depends_on_order_and_on_where_lines_end() -> None:
    assert digest_of_lines(["a", "b"]) == text_digest("a\nb\n")
    assert len({digest_of_lines(x) for x in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""])}) == 4
