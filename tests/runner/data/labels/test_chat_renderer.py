"""Whatever a template looks at, it is what ``apply_chat_template`` shows it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_renderer import ChatRenderer
from runner.data.reading.row_template import RowError
from tests.runner.tiny_data import make_tokenizer

ASKED = {"role": "user", "content": "What is <b> & 'é'?\n"}
TOLD = {"role": "assistant", "content": " It is\tthat. "}
TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "get_time", "arguments": {"zone": "UTC"}}}


class Loud(str):
    """A text with a method that no template may call."""

    def shout(self) -> str:
        return self.upper()


CONVERSATIONS = {
    "texts": Conversation(messages=(ASKED, TOLD)),
    "no_content": Conversation(messages=(ASKED, {"role": "assistant"})),
    "none": Conversation(messages=(ASKED, {**TOLD, "content": None, "name": None})),
    "not_trained": Conversation(messages=(ASKED, {**TOLD, "train": False})),
    "reasoning": Conversation(messages=(ASKED, {**TOLD, "reasoning_content": "Hm."})),
    "thought": Conversation(messages=(ASKED, {**TOLD, "thinking": "Hm."})),
    "parts": Conversation(messages=({**ASKED, "content": [{"type": "text", "text": "a"}]}, TOLD)),
    "number": Conversation(messages=({**ASKED, "content": 5}, TOLD)),
    "loud": Conversation(messages=({**ASKED, "content": Loud("quiet")}, TOLD)),
    "call": Conversation(messages=(ASKED, {**TOLD, "tool_calls": [CALL]}), tools=(TOOL,)),
    "tools": Conversation(messages=(ASKED, TOLD), tools=(TOOL,)),
}
TEMPLATES = {
    "all": "{{ messages | tojson }}{{ tools | tojson }}{{ documents | tojson }}"
    "{{ add_generation_prompt }}{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}"
    "{{ enable_thinking }}{{ sep_token is defined }}{{ chat_template is defined }}",
    "kinds": "{{ messages is mapping }}{{ (messages + messages) | length }}{{ messages[1:] }}"
    "{% for m in messages %}{{ m is mapping }}{{ m.items() | list }}{{ m.keys() | list }}"
    "{{ m.name is defined }}{{ m.content is string }}{{ m.get('name') }}{% endfor %}",
    "methods": "{% for m in messages %}{{ m.content.upper() }}{{ m.content.shout() }}{% endfor %}",
    "names": "{% set ns = namespace(n=0) %}{% macro line(x) %}{{ x }};{{ bos_token }}{% endmacro %}"
    "{% for m in messages %}{% set ns.n = ns.n + loop.index %}{{ line(m.role) }}"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ ns.n }}{{ dict(a=1) | tojson }}",
    "globals": "{{ range(3) | list }}{{ cycler is defined }}{{ strftime_now is defined }}"
    "{{ raise_exception is defined }}{{ lipsum is defined }}{% set range = 5 %}{{ range }}",
    "blocks": "  {% block a %}\n x{{ self.a is defined }}{{ messages | length }}{% endblock %}\n",
    "marks": "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "changes": "{% for m in messages %}{{ m.update(role='x') }}{% endfor %}",
    "appends": "{{ messages.append(1) }}",
    "raises": "{{ raise_exception('no ' ~ messages[0].role) }}",
    "divides": "{{ 1 // (messages | length - messages | length) }}",
    "missing": "{{ messages[0].there.is_none }}",
    "includes": "{% include 'other' %}",
    "broken": "{% for m in messages %}",
}


@cache
def tokenizer() -> Any:
    return make_tokenizer(None)


def theirs(template: str, shown: list[dict[str, Any]], tools: list[Any], **values: Any) -> Any:
    """What ``apply_chat_template`` gives, or raises."""
    try:
        return tokenizer().apply_chat_template(
            shown, tools=tools or None, chat_template=template, tokenize=False, **values
        )
    except Exception as error:  # noqa: BLE001 - whatever the template raises
        return f"template.chat raised {type(error).__name__}: {error}"


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("prompt", [False, True], ids=["whole", "prompt"])
def test_a_template_sees_and_raises_what_it_does_elsewhere(
    name: str, template: str, prompt: bool
) -> None:
    conversation = CONVERSATIONS[name]
    renderer = ChatRenderer(text=template, variables=tokenizer().special_tokens_map)
    shown = [
        {k: v for k, v in message.items() if v is not None and k != "train"}
        for message in conversation.messages
    ]
    for thinking in (None, True, False):
        switch = {} if thinking is None else {"enable_thinking": thinking}
        wanted = theirs(
            template, shown, list(conversation.tools), add_generation_prompt=prompt, **switch
        )
        try:
            found = renderer.render(conversation, generation_prompt=prompt, thinking=thinking)
        except RowError as error:
            found = str(error)
        assert found == wanted


def test_texts_alone_are_rendered_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above compare are two ways, and not one twice."""
    monkeypatch.setattr(ChatRenderer, "_rendered", lambda *_, **__: (["elsewhere"], []))
    renderer = ChatRenderer(text="{{ messages[0].content }}", variables={})

    def rendered(name: str) -> str:
        return renderer.render(CONVERSATIONS[name], generation_prompt=False, thinking=None)

    direct = {name for name in CONVERSATIONS if rendered(name) != "elsewhere"}
    assert direct == {"texts", "no_content"}


def test_a_message_is_as_it_was_after_rendering() -> None:
    messages = ({**ASKED}, {**TOLD})
    for template in TEMPLATES.values():
        renderer = ChatRenderer(text=template, variables={})
        try:
            renderer.render(Conversation(messages=messages), generation_prompt=False, thinking=None)
        except RowError:
            continue
    assert messages == (ASKED, TOLD)
