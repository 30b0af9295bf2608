"""Every chat template that the installed TRL ships: the label contract holds, or it is refused."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_renderer import ChatRenderer
from runner.data.labels.chat_template import probe_chat_template
from runner.data.labels.rendering import render_conversation
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from tests.conftest import ROOT
from tests.runner.data.labels.trl_templates import (
    CALLING,
    FOLDER,
    NAMES,
    PLAIN,
    REASONED,
    TRAINING,
    probed,
    template_text,
    tokenizer_for,
    tried,
)

# Outcome by template, so that a change of TRL's or of ours is seen; on all others the contract
# holds. The rule is the one that the template breaks.
REFUSED = {
    "deepseek_r1_distill": "prompt_prefix",
    "deepseekv3": "prompt_prefix",
    "glm4moe": "stop_token",
    "idefics3": "unusable_row",
    "llava_next": "unusable_row",
    "smolvlm": "unusable_row",
}
# Ends earlier answers with another token than the last, on which generation does not stop.
ONE_TURN = {"gptoss"}
WITHOUT_SYSTEM = {"gemma"}
# Training twins that render another text than their template, so that masks cannot be compared.
OTHER_TEXT = {"llama3", "qwen3_5_nothink"}


@pytest.mark.parametrize("loss_on", ["completion", "assistant_turns"])
@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds_or_the_template_is_refused(name: str, loss_on: Any) -> None:
    chat = probed(name)
    if isinstance(chat, str):
        assert chat.startswith("template.chat"), chat
        assert f"(rule {REFUSED[name]})" in chat
        return
    assert name not in REFUSED
    found = tried(name, chat, PLAIN, loss_on)
    assert found.broken == {}
    several = name in ONE_TURN and loss_on == "assistant_turns"
    expected = {i for i in range(6) if (several and i > 1) or (name in WITHOUT_SYSTEM and i % 2)}
    assert set(found.refused) == expected
    for supervised, index in zip(found.labelled.supervised, found.kept, strict=True):
        turns = 1 if loss_on == "completion" else (1, 2, 5)[index // 2]
        assert len(supervised) == turns
        assert "No doubt." in supervised[-1]


@pytest.mark.parametrize("conversations", [REASONED, CALLING], ids=["reasoning", "tools"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_reasoning_and_tool_calls_hold_the_contract_or_are_refused(
    name: str, conversations: list[Conversation]
) -> None:
    chat = probed(name)
    assert not isinstance(chat, str)
    for loss_on in ("completion", "assistant_turns"):
        found = tried(name, chat, conversations, loss_on)
        assert found.broken == {}
        for supervised, index in zip(found.labelled.supervised, found.kept, strict=True):
            if conversations is REASONED:
                assert "One more is\nthe next number." in supervised[-1]
                assert "No doubt." in supervised[-1]
            elif index == 0 or loss_on == "assistant_turns":
                assert "get_weather" in supervised[0]
                assert "Zürich" in supervised[0]


@pytest.mark.parametrize("name", TRAINING)
def test_masks_agree_with_trl_s_own_generation_marks(name: str) -> None:
    """TRL's training twins mark the assistant's text with {% generation %}."""
    chat = probed(name)
    if isinstance(chat, str):
        pytest.skip("refused as a whole")
    text = (FOLDER / f"{name}_training.jinja").read_text(encoding="utf-8")
    twin = ChatRenderer(text=text, variables=chat.renderer.variables)
    compared = 0
    for conversation in PLAIN:
        try:
            rendered = render_conversation(chat, conversation, loss_on="assistant_turns")
        except RowError:
            continue
        shown, marks = twin.marks(conversation, thinking=chat.thinking)
        if shown != rendered.text:
            continue
        ours = {i for answer in rendered.answers for i in range(answer.start, answer.end)}
        marked = {i for start, end in marks for i in range(start, end)}
        assert ours <= marked
        # TRL also marks the white space or (cohere2, phi3) one more special token after the stop
        # token, and (gptoss, qwen2_5, thinking blocks) a part of the generation prompt.
        extra = "".join(shown[i] for i in sorted(marked - ours))
        words = chat.special_pattern.sub(" ", extra).split()
        assert set(words) <= {"assistant", "<think>", "</think>", "<think></think>"}
        compared += 1
    assert compared or name in OTHER_TEXT


@pytest.mark.parametrize("name", TRAINING)
def test_a_training_twin_as_the_chat_template_keeps_the_rule_about_marks(name: str) -> None:
    """The rule generation_marks, on templates that were made by others to be trained with."""
    tokenizer = tokenizer_for(name)
    text = (FOLDER / f"{name}_training.jinja").read_text(encoding="utf-8")
    try:
        chat = probe_chat_template(text, tokenizer)
    except DataError:
        assert name in REFUSED
        return
    assert chat.generation_marks
    for loss_on in ("completion", "assistant_turns"):
        found = tried(name, chat, PLAIN, loss_on)
        assert found.broken == {}
        assert found.kept


@pytest.mark.parametrize("name", NAMES)
def test_rendering_is_what_apply_chat_template_gives(name: str) -> None:
    tokenizer = tokenizer_for(name)
    renderer = ChatRenderer(text=template_text(name), variables=dict(tokenizer.special_tokens_map))
    for conversation in [*PLAIN, *REASONED, *CALLING]:
        for thinking in (None, True, False):
            for prompt in (False, True):
                shown = conversation.before(len(conversation.messages) - prompt)
                switch = {} if thinking is None else {"enable_thinking": thinking}
                try:
                    theirs = tokenizer.apply_chat_template(
                        list(shown.messages),
                        tools=list(shown.tools) or None,
                        tokenize=False,
                        add_generation_prompt=prompt,
                        **switch,
                    )
                except Exception as error:  # noqa: BLE001 - whatever the template raises
                    with pytest.raises(RowError, match=type(error).__name__):
                        renderer.render(shown, generation_prompt=prompt, thinking=thinking)
                    continue
                ours = renderer.render(shown, generation_prompt=prompt, thinking=thinking)
                assert ours == theirs


def test_the_table_in_the_documents_is_what_happens() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_chat_templates.py"))
    page = (ROOT / "docs" / "chat-templates.md").read_text(encoding="utf-8")
    assert made["chat_templates_markdown"]() == page
    assert page.count("refused: prompt_prefix") == 4
