from __future__ import annotations

from runner.data.formats.conversation import Conversation, Message

USER: Message = {"role": "user", "content": "Why?"}
LAST: Message = {"role": "assistant", "content": "Because."}


def context(*before: Message, tools: tuple[Message, ...] = ()) -> str:
    return Conversation(messages=(*before, LAST), tools=tools).context


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def calling(call_id: str, **arguments: object) -> Message:
    function = {"name": "add", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": call_id, "function": function}]}


def test_a_conversation_without_system_message_tools_and_calls_has_no_context() -> None:
    assert context(USER, LAST, USER) == context(system(" \n"), USER) == ""
    called = Conversation(messages=(USER, calling("a", x=1)))
    assert called.context == ""  # its call is the answer


def test_contexts_differ_by_system_message_tools_and_calls() -> None:
    tool = {"name": "add"}
    found = [
        context(USER),
        context(system("a"), USER),
        context(system("b"), USER),
        context(USER, tools=(tool,)),
        context(USER, tools=(tool, tool)),
        context(USER, calling("a", x=1)),
        context(USER, calling("a", x=2)),
        context(system("add"), USER, tools=(tool,)),
    ]
    assert len(set(found)) == len(found)


def test_the_same_context_is_the_same_text() -> None:
    assert context(USER, calling("a", x=1, y=2)) == context(USER, calling("b", y=2, x=1))
    one, other = {"name": "add", "strict": True}, {"strict": True, "name": "add"}
    assert context(USER, tools=(one,)) == context(USER, tools=(other,))
    assert context(system("a"), USER) == context(system("a"), {**USER, "content": "How?"})
