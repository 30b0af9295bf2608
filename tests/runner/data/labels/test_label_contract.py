"""Each rule is shown an error that once shipped somewhere, planted in sound examples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_template import LossOn, probe_chat_template
from runner.data.labels.label_contract import RULES, TEXTS, Contract, ContractCheck
from runner.data.labels.labelled_rows import LabelledRows, ragged
from runner.data.labels.rendering import render_conversation
from runner.data.labels.text_encoder import TextEncoder
from runner.data.labels.tokenization import label, supervise_all, tokenize
from runner.recipe import Violations
from tests.runner.tiny_data import TEMPLATES, make_tokenizer

TOKENIZER = make_tokenizer("mistral")
CONVERSATIONS = [
    [
        {"role": "user", "content": f"Question {n}?"},
        {"role": "assistant", "content": f"Answer {n}."},
    ]
    for n in range(4)
]


def contract_of(name: str = "mistral", loss_on: LossOn = "completion") -> Contract:
    tokenizer = make_tokenizer(name)
    chat = probe_chat_template(TEMPLATES[name], tokenizer)
    return Contract(chat=chat, loss_on=loss_on, tokenizer=tokenizer, vocabulary=len(tokenizer))


def sound(contract: Contract) -> LabelledRows:
    rendered = [
        render_conversation(
            contract.chat, Conversation(messages=tuple(c)), loss_on=contract.loss_on
        )
        for c in CONVERSATIONS
    ]
    tokenized = tokenize(TextEncoder(contract.tokenizer), rendered)
    if contract.loss_on == "all":
        tokenized = [supervise_all(TextEncoder(contract.tokenizer), t) for t in tokenized]
    return label([10, 11, 12, 13], tokenized)


def broken_rules(batch: LabelledRows, contract: Contract) -> dict[str, list[int]]:
    return ContractCheck(contract).check(batch)


def with_labels(batch: LabelledRows, row: int, change: object) -> LabelledRows:
    """``batch`` with the labels of one row changed by ``change(labels, ids)``."""
    labels = batch.labels.copy()
    a, b = batch.input_ids.offsets[row : row + 2]
    labels[a:b] = change(labels[a:b].copy(), batch.input_ids.values[a:b])
    return replace(batch, labels=labels)


def with_ids(batch: LabelledRows, row: int, ids: list[int], labels: list[int]) -> LabelledRows:
    rows = [batch.input_ids.row(i) for i in range(4)]
    offsets = batch.input_ids.offsets
    old = [batch.labels[offsets[i] : offsets[i + 1]].tolist() for i in range(4)]
    rows[row], old[row] = ids, labels
    return replace(batch, input_ids=ragged(rows), labels=ragged(old).values)


def row_of(batch: LabelledRows, row: int) -> tuple[list[int], list[int]]:
    a, b = batch.input_ids.offsets[row : row + 2]
    return batch.input_ids.row(row), batch.labels[a:b].tolist()


def test_there_is_a_rule_for_every_policy_and_the_other_way_round() -> None:
    assert {*RULES, *TEXTS} == set(Violations.model_fields)


@pytest.mark.parametrize("loss_on", ["completion", "assistant_turns", "all"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_sound_examples_break_nothing(name: str, loss_on: LossOn) -> None:
    contract = contract_of(name, loss_on)
    assert broken_rules(sound(contract), contract) == {}


def test_no_supervised_token() -> None:
    """trl#598: the response marker is not found and every label is ignored."""
    contract = contract_of()
    batch = with_labels(sound(contract), 2, lambda labels, ids: np.full_like(labels, -100))
    assert broken_rules(batch, contract)["no_supervised_token"] == [2]


def test_the_stop_token_masked_as_padding() -> None:
    """trl#1623: a padding token equal to the end token takes the end token's label away."""
    contract = contract_of()
    batch = with_labels(
        sound(contract),
        1,
        lambda labels, ids: np.where(ids == contract.chat.stop_token_id, -100, labels),
    )
    assert broken_rules(batch, contract)["stop_token"] == [1]


def test_another_stop_token_than_the_templates() -> None:
    """axolotl#3754: the tokenizer's end token is supervised where the template's should be."""
    contract = contract_of("chatml")
    batch = sound(contract)
    ids, labels = row_of(batch, 0)
    stop, end = contract.chat.stop_token_id, contract.tokenizer.eos_token_id
    swap = {stop: end}
    batch = with_ids(batch, 0, [swap.get(i, i) for i in ids], [swap.get(i, i) for i in labels])
    assert broken_rules(batch, contract)["stop_token"] == [0]


@pytest.mark.parametrize("loss_on", ["completion", "all"])
def test_two_beginning_of_sequence_tokens(loss_on: LossOn) -> None:
    """trl#3328, OpenRLHF#393: the template and the tokenizer each add one."""
    contract = contract_of(loss_on=loss_on)
    batch = sound(contract)
    ids, labels = row_of(batch, 3)
    doubled = with_ids(batch, 3, [ids[0], *ids], [-100, *labels])
    rule = "beginning_token"
    assert broken_rules(doubled, contract)[rule] == [3]
    prompts = [batch.prompt_ids.row(i) for i in range(4)]
    prompts[0] = prompts[0][1:]
    fewer = replace(batch, prompt_ids=ragged(prompts))
    assert broken_rules(fewer, contract)[rule] == [0]


def test_a_beginning_token_that_is_also_the_stop_token_may_occur_at_both_ends() -> None:
    tokenizer = make_tokenizer("mistral")
    tokenizer.bos_token = "</s>"
    chat = probe_chat_template(TEMPLATES["mistral"], tokenizer)
    contract = Contract(
        chat=chat, loss_on="completion", tokenizer=tokenizer, vocabulary=len(tokenizer)
    )
    batch = sound(contract)
    assert broken_rules(batch, contract) == {}
    ids, labels = row_of(batch, 0)
    doubled = with_ids(batch, 0, [ids[0], *ids], [-100, *labels])
    assert len(broken_rules(doubled, contract)) > 0


def test_a_tokenizer_without_a_beginning_token_has_none_to_count() -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.bos_token = None
    chat = probe_chat_template(TEMPLATES["chatml"], tokenizer)
    contract = Contract(
        chat=chat, loss_on="completion", tokenizer=tokenizer, vocabulary=len(tokenizer)
    )
    assert broken_rules(sound(contract), contract) == {}


def test_a_prompt_that_is_no_prefix() -> None:
    """trl#4147."""
    contract = contract_of()
    batch = sound(contract)
    prompts = [batch.prompt_ids.row(i) for i in range(4)]
    prompts[1][3] += 1
    prompts[2] = batch.input_ids.row(2)
    changed = replace(batch, prompt_ids=ragged(prompts))
    assert broken_rules(changed, contract)["prompt_prefix"] == [1, 2]


def test_a_supervised_question() -> None:
    contract = contract_of()
    batch = with_labels(sound(contract), 0, lambda labels, ids: ids)
    found = broken_rules(batch, contract)
    assert found["outside_answer"] == [0]
    assert found["answer_text"] == [0]


def test_an_answer_that_is_supervised_from_its_second_token_on() -> None:
    contract = contract_of()

    def mask_first(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        labels[np.flatnonzero(labels != -100)[0]] = -100
        return labels

    found = broken_rules(with_labels(sound(contract), 0, mask_first), contract)
    assert found["outside_answer"] == [0]
    assert found["answer_text"] == [0]


def test_something_supervised_after_the_answer() -> None:
    contract = contract_of("chatml")
    batch = with_labels(sound(contract), 0, lambda labels, ids: np.append(labels[:-1], ids[-1]))
    assert broken_rules(batch, contract)["stop_token"] == [0]


def test_a_hole_in_the_answer() -> None:
    contract = contract_of()

    def hole(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        labels[np.flatnonzero(labels != -100)[1]] = -100
        return labels

    found = broken_rules(with_labels(sound(contract), 3, hole), contract)
    assert found["answer_text"] == [3]


def test_labels_that_are_shifted() -> None:
    contract = contract_of()
    batch = with_labels(sound(contract), 1, lambda labels, ids: np.roll(labels, 1))
    found = broken_rules(batch, contract)
    assert found["outside_answer"] == [1]


def test_token_ids_beyond_the_models_vocabulary() -> None:
    contract = replace(contract_of(), vocabulary=50)
    batch = sound(contract)
    found = broken_rules(batch, contract)
    assert found["vocabulary"] == [0, 1, 2, 3]


def test_an_empty_batch_breaks_nothing() -> None:
    contract = contract_of()
    assert broken_rules(label([], []), contract) == {}
