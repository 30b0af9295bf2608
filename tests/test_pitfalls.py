"""Silent errors of data that other trainers have shipped: each is planted, and seen caught.

The numbers are public issues. Those of training, evaluation and release have their tests beside the
modules that prevent them.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from runner.data.labels.chat_template import probe_chat_template
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.labels.labelled_rows import LabelledRows, ragged
from runner.data.labels.padding import configure_padding
from runner.data.preparation import PreparedData, prepare_data
from runner.data.reading.sources import resolve_source
from runner.errors import DataError
from runner.recipe import Recipe
from tests.runner.tiny_data import TEMPLATES, make_recipe, make_tokenizer

ALL_TRAIN = {"by": "position", "train": 1, "validation": 0, "test": 0}


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    """Rows of which no two are alike."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    made = []
    for number in range(first, first + count):
        digits = str(int(hashlib.sha256(str(number).encode()).hexdigest(), 16))[:8]
        spelt = [words[int(digit)] for digit in digits]
        asked, told = " ".join(spelt), " ".join(reversed(spelt))
        made.append({"instruction": f"Turn round: {asked}.", "output": f"{told}, and no more."})
    return made


def write(folder: Path, data: list[dict[str, Any]]) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))


def recipe_of(**blocks: Any) -> Recipe:
    shared = {"format": "alpaca", "columns": {"input": None}, "partition": {"by": "position"}}
    dataset = {**shared, **blocks.pop("dataset", {})}
    return make_recipe(dataset=dataset, **blocks)


def prepare(folder: Path, recipe: Recipe, template: str = "chatml", **options: Any) -> PreparedData:
    return prepare_data(
        recipe,
        resolve_source(recipe.dataset, folder),
        options.pop("tokenizer", None) or make_tokenizer(template),
        base_folder=folder,
        cache_folder=folder / "cache",
        **options,
    )


def members(data: PreparedData) -> dict[str, set[str]]:
    return {
        name: set(pq.read_table(path)["example_id"].to_pylist())
        for name, path in data.paths.items()
    }


IN_A_FRESH_PROCESS = """
import json, sys
from pathlib import Path
from tests.test_pitfalls import members, prepare, recipe_of
folder = Path(sys.argv[1])
data = prepare(folder, recipe_of(dataset={"partition": {"by": sys.argv[2]}}))
print(json.dumps({name: sorted(ids) for name, ids in members(data).items()}))
"""


@pytest.mark.parametrize("by", ["random", "hash"])
def test_the_split_is_the_same_in_every_process(tmp_path: Path, by: str) -> None:
    """TRL 1.16's test_split_size: three launches, three test sets."""
    found = []
    for launch in range(2):
        folder = tmp_path / str(launch)  # with a cache of its own
        folder.mkdir()
        write(folder, rows(120))
        command = [sys.executable, "-c", IN_A_FRESH_PROCESS, str(folder), by]
        root = Path(__file__).parent.parent
        shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        found.append(json.loads(shown.stdout))
    assert found[0] == found[1]
    assert not set(found[0]["train"]) & set(found[0]["test"])


def test_members_that_changed_are_seen_by_the_process_that_loads_them(tmp_path: Path) -> None:
    write(tmp_path, rows(60))
    data = prepare(tmp_path, recipe_of())
    table = pq.read_table(data.path("train"))
    pq.write_table(table.slice(1), data.path("train"))
    from runner.data.preparation import partition_dataset
    from runner.errors import MachineError

    with pytest.raises(MachineError, match="examples are not those that were prepared for train"):
        partition_dataset(data, "train")


def test_padding_with_the_end_token_is_refused() -> None:
    """trl#1623, alignment-handbook#127: the end token is masked, and never learned."""
    with pytest.raises(DataError, match="padding would hide the end of answers"):
        configure_padding(make_tokenizer("chatml"), "</s>")


def test_padding_with_the_template_s_stop_token_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.pad_token = "<|im_end|>"
    write(tmp_path, rows(30))
    with pytest.raises(DataError, match="token that ends an answer"):
        prepare(tmp_path, recipe_of(), tokenizer=tokenizer)


def test_the_stop_token_is_the_template_s_and_not_the_tokenizer_s(tmp_path: Path) -> None:
    """axolotl#3754: chat templates that end turns otherwise than the tokenizer ends texts."""
    write(tmp_path, rows(60))
    data = prepare(tmp_path, recipe_of())
    tokenizer = make_tokenizer("chatml")
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token == "</s>"
    assert data.stop_token == "<|im_end|>"
    assert stop in data.stop_token_ids  # generation stops on it
    for labels in pq.read_table(data.path("train"))["labels"].to_pylist():
        assert [label for label in labels if label >= 0][-1] == stop  # and it is learned


def test_a_template_whose_answers_never_stop_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(30))
    endless = TEMPLATES["plain"].replace(" + eos_token", "")
    with pytest.raises(DataError, match="could not learn to stop"):
        prepare(tmp_path, recipe_of(), tokenizer=make_tokenizer(endless))


def test_two_beginning_tokens_are_seen(tmp_path: Path) -> None:
    """trl#3328, OpenRLHF#393: template and tokenizer each add one."""
    write(tmp_path, rows(30))
    doubled = TEMPLATES["mistral"].replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}")
    with pytest.raises(DataError, match=r"dataset\.violations\.beginning_token"):
        prepare(tmp_path, recipe_of(), tokenizer=make_tokenizer(doubled))


def test_training_and_generation_begin_alike(tmp_path: Path) -> None:
    write(tmp_path, rows(60))
    data = prepare(tmp_path, recipe_of(), template="mistral")
    bos = make_tokenizer("mistral").bos_token_id
    for row in pq.read_table(data.path("train")).to_pylist():
        assert row["input_ids"].count(bos) == row["prompt_ids"].count(bos) == 1


def test_a_marker_that_tokenizes_otherwise_in_context_hides_no_answer(tmp_path: Path) -> None:
    """trl#598, #1183, unsloth#1290: the response marker is not found, and nothing is learned."""
    write(tmp_path, rows(60))
    tokenizer = make_tokenizer("plain", "sentencepiece")
    marker = tokenizer("\nAnswer:", add_special_tokens=False)["input_ids"]
    data = prepare(tmp_path, recipe_of(), tokenizer=tokenizer)
    table = pq.read_table(data.path("train")).to_pylist()
    for row in table:
        learned = [label for label in row["labels"] if label >= 0]
        assert tokenizer.decode(learned) == row["answer"] + "</s>"
        # A search for the marker's tokens finds nothing: alone, it begins with a space's token.
        ids = row["input_ids"]
        places = range(len(ids) - len(marker) + 1)
        assert all(ids[at : at + len(marker)] != marker for at in places)


def test_a_row_of_which_nothing_is_learned_is_seen() -> None:
    tokenizer = make_tokenizer("chatml")
    chat = probe_chat_template(tokenizer.chat_template, tokenizer)
    contract = Contract(chat=chat, loss_on="completion", tokenizer=tokenizer, vocabulary=600)
    ids = tokenizer("ab", add_special_tokens=False)["input_ids"]
    nothing = LabelledRows(
        rows=np.array([7]),
        input_ids=ragged([ids]),
        labels=np.full(len(ids), -100, dtype=np.int32),
        prompt_ids=ragged([ids[:1]]),
        prompts=("a",),
        questions=("a",),
        contexts=("",),
        answers=("b",),
        supervised=((),),
        supervised_bytes=np.zeros(1, dtype=np.int64),
        marks_differ=np.zeros(1, dtype=np.bool_),
    )
    assert "no_supervised_token" in ContractCheck(contract).check(nothing)


def test_a_generation_prompt_that_training_text_does_not_begin_with_is_refused(
    tmp_path: Path,
) -> None:
    """trl#4147."""
    write(tmp_path, rows(30))
    other = TEMPLATES["chatml"].replace(
        "{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\nThink first. ' }}"
    )
    with pytest.raises(DataError, match=r"prompt_prefix|generation prompt"):
        prepare(tmp_path, recipe_of(), tokenizer=make_tokenizer(other))


def test_truncation_that_takes_the_answer_away_drops_the_row(tmp_path: Path) -> None:
    """trl#3927."""
    long = {"instruction": "word " * 400, "output": "never seen"}
    write(tmp_path, [*rows(30), long])
    template = {"max_length": 120, "too_long": "truncate"}
    data = prepare(tmp_path, recipe_of(dataset={"partition": ALL_TRAIN}, template=template))
    outcome = next(rule for rule in data.rules if rule.rule == "too_long")
    assert (outcome.violations, outcome.dropped, outcome.first_rows) == (1, 1, (30,))
    assert 30 not in pq.read_table(data.path("train"))["row"].to_pylist()
    strict = {"max_length": 120, "too_long": "error"}
    with pytest.raises(DataError, match=r"template.too_long.*\n.*row 30"):
        prepare(tmp_path, recipe_of(dataset={"partition": ALL_TRAIN}, template=strict))


def test_the_cache_knows_the_data_by_content_and_not_by_name(tmp_path: Path) -> None:
    """axolotl's generate_dataset_hash_from_config: changed data, the old prepared set."""
    write(tmp_path, rows(60))
    before = prepare(tmp_path, recipe_of())
    write(tmp_path, rows(60, first=5000))  # the same file name, and the same size or nearly
    after = prepare(tmp_path, recipe_of())
    assert before.key != after.key
    assert not members(before)["train"] & members(after)["train"]


def test_the_cache_knows_template_and_tokenizer_by_content(tmp_path: Path) -> None:
    write(tmp_path, rows(60))
    keys = {
        prepare(tmp_path, recipe_of(), template=template).key for template in ("chatml", "llama3")
    }
    changed = make_tokenizer(TEMPLATES["chatml"].replace("'\n' +", "'\n\n' +"))
    keys.add(prepare(tmp_path, recipe_of(), tokenizer=changed).key)
    assert len(keys) == 3


def test_a_test_row_that_is_in_train_too_is_found(tmp_path: Path) -> None:
    """Public sets hold test rows that are equal, or nearly, to training rows."""
    data = rows(40)
    twin = {**data[3], "instruction": data[3]["instruction"].replace(" ", "\u00a0 ")}
    near = {**data[5], "instruction": data[5]["instruction"] + "!"}
    write(tmp_path, [*data, twin, near])
    partition = {"by": "position", "train": 40 / 42, "validation": 0, "test": 2 / 42}
    found = prepare(tmp_path, recipe_of(dataset={"partition": partition}))
    kinds = {(c.kind, c.by): c.pairs for c in found.leaks.counts if c.first == "train"}
    assert kinds["exact", "prompt"] == 1
    assert kinds["near", "prompt"] == 1
    assert found.leaks.dropped == 1  # the equal one, by default
    assert found.leaks.leaked == {"test": 1}  # the near one is marked
    strict = {"partition": partition, "leaks": {"exact": "error"}}
    with pytest.raises(DataError, match="leaks between partitions, whose policy is error"):
        prepare(tmp_path, recipe_of(dataset=strict))
