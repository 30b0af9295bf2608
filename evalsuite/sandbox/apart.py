"""Tests in a process of their own: what runs inside the two sandboxes of one program.

This file is handed to both as text. One runs the answer's code and then answers calls; the other
runs the tests, in which every public function of the answer is a stand-in that asks the first. Only
plain values pass, in JSON: no object of the answer is ever in the process that decides, and nothing
that the answer finds in its own process says how to pass. `evalsuite.sandbox.relay` carries the
messages: eight digits of length, then the text; one for the tests begins with ``C``.

Names that Python itself has, such as ``abs``, are Python's in the tests, whatever the answer calls
by them.

What passes: None, truth values, numbers, text, bytes, ranges, lists, tuples, sets and dictionaries
of these, and the first 10,000 items of an iterator. Lists, dictionaries and sets that an answer
changes in place are changed in the tests too. Tests that need classes or other objects of the
answer, or hand it functions, cannot run apart.
"""

from __future__ import annotations

import builtins
import itertools
import json
import os

TYPE_CHECKING = False  # to import typing costs milliseconds at every start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Take = Callable[[int, int], bytes]

MOST_ITEMS = 10_000
_EXACT_INTEGER = 2**53


def encode(value: Any) -> Any:  # noqa: ANN401 - any value of an answer
    """``value`` for JSON; what JSON lacks as a dictionary of one key.

    Raises:
        TypeError: It is no plain value.
    """
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int) and abs(value) < _EXACT_INTEGER:
        return int(value)
    if isinstance(value, list):
        return [encode(item) for item in value]
    for kind, (name, content) in _KINDS.items():
        if isinstance(value, kind):
            return {name: content(value)}
    if hasattr(value, "__next__"):
        return {"iterator": _items(itertools.islice(value, MOST_ITEMS))}
    raise TypeError(f"a {type(value).__name__} cannot pass between an answer and tests apart")


def _items(values: Iterable[Any]) -> list[Any]:
    return [encode(item) for item in values]


_KINDS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("int", hex),  # JSON readers differ about long ones
    dict: ("dict", lambda value: [_items(pair) for pair in value.items()]),
    tuple: ("tuple", _items),
    set: ("set", _items),
    frozenset: ("frozenset", _items),
    bytes: ("bytes", bytes.hex),
    bytearray: ("bytearray", bytearray.hex),
    complex: ("complex", lambda value: [value.real, value.imag]),
    range: ("range", lambda value: [value.start, value.stop, value.step]),
}


def decode(value: Any) -> Any:  # noqa: ANN401 - whatever was encoded
    """What `encode` was given; ValueError or TypeError where it is no such thing."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {decode(key): decode(item) for key, item in content}
    made: dict[str, Callable[[Any], Any]] = {
        "int": lambda text: int(text, 16),
        "tuple": lambda items: tuple(decode(items)),
        "set": lambda items: set(decode(items)),
        "frozenset": lambda items: frozenset(decode(items)),
        "bytes": bytes.fromhex,
        "bytearray": bytearray.fromhex,
        "complex": lambda parts: complex(*parts),
        "range": lambda ends: range(*ends),
        "iterator": lambda items: iter(decode(items)),
    }
    return made[kind](content)


def answering(
    job: dict[str, Any], names: dict[str, Any], source: int, result: int, take: Take
) -> None:
    """Run the answer's code, say which names it has, and answer calls until none comes."""
    exec(compile(job["source"], "source", "exec"), names)
    public = {name: value for name, value in names.items() if not name.startswith("__")}
    functions = [name for name, value in public.items() if callable(value)]
    send(result, b"", {"functions": functions, "values": _plain(public)})
    while True:
        asked = receive(source, take)
        arguments = [decode(value) for value in asked["arguments"]]
        named = {name: decode(value) for name, value in asked["named"].items()}
        reply: dict[str, Any]
        try:
            value = encode(names[asked["function"]](*arguments, **named))
            reply = {"value": value, "arguments": [encode(item) for item in arguments]}
        except Exception as error:  # noqa: BLE001 - whatever the answer raises
            reply = {"raised": [type(error).__name__, str(error)[:300]]}
        send(result, b"", reply)


def _plain(names: dict[str, Any]) -> dict[str, Any]:
    """Those names that stand for plain values, encoded."""
    found = {}
    for name, value in names.items():
        if not hasattr(value, "__next__"):  # that would use it up
            try:
                found[name] = encode(value)
            except (TypeError, RecursionError):
                continue
    return found


def testing(
    job: dict[str, Any], names: dict[str, Any], source: int, result: int, take: Take
) -> None:
    """Run the tests with a stand-in for every function of the answer."""
    known = receive(source, take)

    def stand_in(function: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the tests call it
            asked = {
                "function": function,
                "arguments": [encode(value) for value in arguments],
                "named": {name: encode(value) for name, value in named.items()},
            }
            send(result, b"C", asked)
            return _outcome(receive(source, take), arguments)

        call.__name__ = function
        return call

    values = {name: decode(value) for name, value in known["values"].items()}
    functions = {str(name): stand_in(str(name)) for name in known["functions"]}
    names.update({n: v for n, v in {**values, **functions}.items() if not _is_ours(n)})
    exec(compile(job["tests"], "tests", "exec"), names)
    os.write(result, b"N")


def _is_ours(name: str) -> bool:
    """Names that the tests rely on, which an answer may not replace: those of Python itself."""
    return name.startswith("__") or hasattr(builtins, name)


def _outcome(reply: dict[str, Any], arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401 - a plain value
    """What a call gave; arguments that were changed in place are changed here."""
    if "raised" in reply:
        name, message = map(str, reply["raised"])
        kind = getattr(builtins, name, None)
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            kind = type(name, (Exception,), {})
        raise kind(message)
    for argument, encoded in zip(arguments, reply["arguments"], strict=True):
        if isinstance(argument, list | bytearray):
            argument[:] = decode(encoded)
        elif isinstance(argument, dict | set):
            changed = decode(encoded)
            argument.clear()
            argument.update(changed)
    return decode(reply["value"])


def send(descriptor: int, kind: bytes, message: dict[str, Any]) -> None:
    """Write one message, whole."""
    text = json.dumps(message).encode()
    rest = memoryview(kind + b"%8d" % len(text) + text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int, take: Take) -> dict[str, Any]:
    """Read one message."""
    message: dict[str, Any] = json.loads(take(descriptor, int(take(descriptor, 8))))
    return message
