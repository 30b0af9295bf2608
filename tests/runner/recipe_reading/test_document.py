"""The strict reader: YAML 1.2 scalars, strict JSON, places, and nothing that can make it fall."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import RecipeError
from runner.recipe_reading.document import parse_document, read_document
from runner.recipe_reading.draft import KeyPath, Plain

JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON_VALUES = st.recursive(
    JSON_SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def _value(scalar: str) -> Plain:
    document = parse_document(f"key: {scalar}\n", suffix=".yaml", file="x.yaml")
    assert document.faults == ()
    return document.value["key"]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        # YAML 1.2.2, 10.3.2: the core schema
        ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None), ("nUll", "nUll"),
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("tRue", "tRue"),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("N", "N"),
        ("0", 0), ("-0", 0), ("+12", 12), ("012", 12), ("0o14", 12), ("0x1F", 31), ("0b11", "0b11"),
        ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("0o8", "0o8"), ("0xG", "0xG"),
        ("-0x1", "-0x1"),
        ("3e-4", 3e-4), ("3E4", 3e4), ("1e3", 1e3), (".5", 0.5), ("5.", 5.0), ("-1.5e+3", -1500.0),
        ("3e-4x", "3e-4x"), ("1.2.3", "1.2.3"), (".", "."), ("e3", "e3"), ("1e", "1e"),
        ("2024-01-31", "2024-01-31"), ("<unk>", "<unk>"), ("=", "="), ("a#b", "a#b"),
        ("'3e-4'", "3e-4"), ('"null"', "null"), ("''", ""), ("'it''s'", "it's"),
        ('"\\x41\\/"', "A/"),
        ("|\n  a\n  b", "a\nb\n"), (">-\n  a\n  b", "a b"), ("a # comment", "a"),
        ("[1, a, [true]]", [1, "a", [True]]), ("{a: 1, b: {c: null}}", {"a": 1, "b": {"c": None}}),
    ],
)  # fmt: skip
def test_a_yaml_scalar_means_what_yaml_1_2_says(scalar: str, value: Plain) -> None:
    found = _value(scalar)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("scalar", [".inf", "-.Inf", ".nan", "1e999", "9" * 30, "9" * 9000])
def test_what_no_number_can_hold_is_refused(scalar: str) -> None:
    document = parse_document(f"a: {scalar}\nb: 1\n", suffix=".yaml", file="x.yaml")
    assert [fault.key for fault in document.faults] == ["a"]
    assert document.value["b"] == 1
    assert document.unreadable == {("a",)}


def test_integers_up_to_63_bits_are_held() -> None:
    assert _value(str(2**63 - 1)) == 2**63 - 1
    assert _value(f"-{'0' * 50}7") == -7


def test_places_of_yaml_count_from_one() -> None:
    text = "a: 1\nb:\n  - x\n  - c: 'y'\nd: {e:   2}\n"
    document = parse_document(text, suffix=".yaml", file="x.yaml")
    keys = {path: (place.line, place.column) for path, place in document.keys.items()}
    values = {path: (place.line, place.column) for path, place in document.values.items()}
    assert keys == {
        ("a",): (1, 1), ("b",): (2, 1), ("b", 1, "c"): (4, 5), ("d",): (5, 1), ("d", "e"): (5, 5),
    }  # fmt: skip
    assert values == {
        (): (1, 1), ("a",): (1, 4), ("b",): (3, 3), ("b", 0): (3, 5), ("b", 1): (4, 5),
        ("b", 1, "c"): (4, 8), ("d",): (5, 4), ("d", "e"): (5, 10),
    }  # fmt: skip


def _check_places(value: Plain, text: str, path: KeyPath) -> None:
    document = parse_document(text, suffix=".json", file="x.json")
    lines = text.split("\n")
    place = document.values[path]
    decoded, _ = json.JSONDecoder().raw_decode(
        "\n".join(lines[place.line - 1 :])[place.column - 1 :]
    )
    assert decoded == value
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for step, child in children:
        if isinstance(step, str):
            key = document.keys[*path, step]
            assert lines[key.line - 1][key.column - 1 :].startswith(json.dumps(step))
        _check_places(child, text, (*path, step))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.sampled_from([None, 1, "\t"]))
def test_json_is_read_as_the_standard_library_reads_it(
    value: dict[str, Plain], indent: int | str | None
) -> None:
    text = json.dumps(value, indent=indent)
    document = parse_document(text, suffix=".json", file="x.json")
    assert document.value == value
    assert document.faults == ()
    _check_places(value, text, ())


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(), JSON_SCALARS, max_size=3))
def test_json_in_flow_style_is_yaml_too(value: dict[str, Plain]) -> None:
    text = json.dumps(value, ensure_ascii=True)
    if "\\ud" in text or len(text) > 800 or any(len(key) > 100 for key in value):
        return  # YAML has no surrogate pairs, and no very long keys
    document = parse_document(text, suffix=".yaml", file="x.yaml")
    assert document.value == value


@settings(deadline=None, max_examples=400)
@given(st.text(), st.sampled_from([".yaml", ".json"]))
def test_arbitrary_text_raises_nothing_but_recipe_errors(text: str, suffix: str) -> None:
    _parses_or_faults(text, suffix)


SNIPPETS = [
    "a: ", "- ", "? ", "{", "}", "[", "]", ",", ":", ": ", "&a ", "*a", "!!str ", "!", "|", ">",
    "'", '"', "\\", "%YAML 1.2\n", "---\n", "...\n", "\n", "  ", "\t", "#", "@", "`", "{{ x }}",
    "<<: ",
    "\\ud800", "\\U00110000", "\x00", "\x85", "\u2028", "null", "1e999", "\ufeff", '"a": ', "//",
]  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(SNIPPETS)).map("".join), st.sampled_from([".yaml", ".json"]))
def test_broken_syntax_raises_nothing_but_recipe_errors(text: str, suffix: str) -> None:
    _parses_or_faults(text, suffix)


def _parses_or_faults(text: str, suffix: str) -> None:
    try:
        document = parse_document(text, suffix=suffix, file="x")
    except RecipeError as error:
        assert len(error.faults) == 1
        assert error.faults[0].message
        return
    json.dumps(document.value)
    for fault in document.faults:
        assert str(fault).encode("utf-8")


@settings(deadline=None, max_examples=200)
@given(st.binary())
def test_arbitrary_bytes_raise_nothing_but_recipe_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary.yaml"
    path.write_bytes(data)
    try:
        read_document(path)
    except RecipeError as error:
        assert error.faults


def test_every_flaw_is_told_and_the_rest_is_read() -> None:
    text = "a: 1\na: {b: 2}\nc: *x\nd: !!int 3\ne: &y [1]\nf: .inf\ng: {[1]: 2}\nh: ok\n"
    document = parse_document(text, suffix=".yaml", file="x.yaml")
    assert [(fault.line, fault.key) for fault in document.faults] == [
        (2, "a"), (3, "c"), (4, "d"), (5, "e"), (6, "f"), (7, "g"),
    ]  # fmt: skip
    assert document.value["a"] == 1  # of a key that is given twice the first counts
    assert document.value["h"] == "ok"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 131_000,
        "[" * 131_000,
        "? " * 65_000,
        "- " * 65_000,
        "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a, *a]\n" for i in range(2000)),
        "a: '" + "x" * 131_000 + "'",
        "%YAML 1." + "9" * 5000 + "\n---\na: 1\n",
        'a: "\\UFFFFFFFF"',
    ],
    ids=["braces", "brackets", "keys", "items", "laughs", "long", "version", "escape"],
)
def test_hostile_yaml_neither_hangs_nor_falls(text: str) -> None:
    start = time.process_time()
    _parses_or_faults(text, ".yaml")
    assert time.process_time() - start < 10


@pytest.mark.parametrize("text", ["[" * 131_000, '{"a":' * 20_000, '"' + "\\u0041" * 20_000 + '"'])
def test_hostile_json_neither_hangs_nor_falls(text: str) -> None:
    start = time.process_time()
    _parses_or_faults(text, ".json")
    assert time.process_time() - start < 10


BROKEN_YAML = {
    "a: 1\n  b: 2\n": "2:3: the key 'b' cannot stand here",
    "a: b: c\n": "1:5: a second ': ' in one line",
    "a: &\n": "1:4: a value that starts with '&' is a YAML anchor",
    "a: !<x y\n": "1:4: a value that starts with '!' is a YAML tag",
    "a: !e!x 1\n": "1:4: a value that starts with '!' is a YAML tag",
    "a: | x\n  y\n": "1:6: after '|' or '>' the text starts on the next line",
    "a: %x\n": "1:4: nothing can start with '%'",
    "a: - 1\n": "1:4: a '- ' list item cannot stand here",
    "a: {b: c: d}\n": "1:9: a ',' or a '}' is missing before this",
    "a: 'it's'\n": "1:8: the value of this line has ended already",
    "a: 'x' [y]\n": "1:8: the value of this line has ended already",
    "a: 1\n- b\n": "2:1: the indentation fits none of the lines above",
    ": 1\n": "1:1: a key is missing before ':'",
    "a: [1]]\n": "1:7: this ']' belongs to nothing before it",
    "a: ]\n": "1:4: a value is missing before ']'",
    "a: 1\n...\nb: 2\n": "3:1: the document has ended already",
    "%YAML 3.0\n---\na: 1\n": "1:1: this version of YAML is unknown",
    'a: "\\uD8"\n': "1:7: this escape needs 4 hexadecimal digits",
    "a: 1\u20282\n": "1:5: the line separator U+2028 cannot stand here",
    "a: {{ x }} and\n": "1:4: a value that starts with '{{' must be in quotes",
    "...\n---\n...\n": "1:1: this is not YAML",
}
BROKEN_JSON = {
    "": "1:1: the file is empty",
    "[]": "1:1: a recipe is made of keys and their values, and this is a list",
    '{"a" 1}': "1:6: a ':' is missing after the key 'a'",
    '{"a": 1} 2': "1:10: nothing may follow the value that ends before this",
    '{"a": 1} // end': "1:10: JSON has no comments",
    '{"a": # x': "1:7: JSON has no comments",
    "{\"a\": 'x'}": "1:7: text must be in double quotes",
    '{"a": -Infinity}': "1:7: -Infinity is not a number that JSON can hold",
    '{"a": 012}': "1:7: 012 is not a number as JSON writes them",
    '{"a": yes}': "1:7: yes is not JSON. Write true.",
    '{"a": tiny}': "1:7: tiny must be in double quotes if it is text",
    '{"a": "x': "1:7: the text that starts here has no closing",
    '{"a": "x\ny"}': "1:9: a line break, tab or control character cannot stand in a text",
    '{"a": "\\d"}': "1:8: this is no escape of JSON",
    '{"a": "\\u12"}': "1:9: \\u needs four hexadecimal digits",
    '{"a": [1,,2]}': "1:10: a value is missing here",
    '{"a": [1, 2}': "1:12: a ',' is missing before this, or a ']'",
}


@pytest.mark.parametrize(("text", "told"), BROKEN_YAML.items())
def test_broken_yaml_is_told_in_plain_words(text: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_document(text, suffix=".yaml", file="x")
    assert str(raised.value).startswith(f"x:{told}")


@pytest.mark.parametrize(("text", "told"), BROKEN_JSON.items())
def test_broken_json_is_told_in_plain_words(text: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_document(text, suffix=".json", file="x")
    assert str(raised.value).startswith(f"x:{told}")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no\.yaml:1:1: there is no such file"):
        read_document(tmp_path / "no.yaml")


def test_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="this is a folder"):
        read_document(tmp_path)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("version = 1")
    with pytest.raises(RecipeError, match=r"ends with \.yaml, \.yml or \.json"):
        read_document(path)


def test_data_given_by_mistake_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[{"instruction": "…"}]' * 20_000, encoding="utf-8")
    with pytest.raises(RecipeError, match="at most 256 KiB"):
        read_document(path)


def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 300}.yaml"
    with pytest.raises(RecipeError, match="cannot be read"):
        read_document(path)


def test_the_place_of_a_byte_that_is_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("ä: 1\nöb: ".encode() + b"\xff")
    with pytest.raises(RecipeError) as raised:
        read_document(path)
    assert (raised.value.faults[0].line, raised.value.faults[0].column) == (2, 5)


def test_floats_are_read_exactly() -> None:
    assert _value("0.1") == 0.1
    assert math.copysign(1, float(str(_value("-0.0")))) == -1
