"""Few-shot examples: which rows are shown before a question, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runner.benchmarks.asked_row import AskedRow, read_asked_rows
from runner.benchmarks.named_benchmark import NamedBenchmark
from runner.data.formats.conversation import Conversation, Message
from runner.data.formats.row_formats import row_format
from runner.data.leaks.near_duplicates import normalized
from runner.data.prepared_data import PreparedData
from runner.data.reading.row_reading import read_rows
from runner.data.reading.row_template import RowError
from runner.data.reading.sources import SourceRecord
from runner.digests import digest_of_json
from runner.errors import DataError
from runner.recipe import Benchmark, FewShot, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A row that may be shown: what it asks as leaks are compared, its turns, its answer."""

    key: str
    turns: tuple[Message, ...]
    answer: str

    @classmethod
    def of(cls, conversation: Conversation, question: str) -> Shot:
        """A conversation without its system message, by what it asks."""
        turns = tuple(m for m in conversation.messages[:-1] if m["role"] != "system")
        answer = str(conversation.messages[-1].get("content") or "")
        return cls(key=normalized(question), turns=turns, answer=answer)


def shots_of(
    benchmark: NamedBenchmark, recipe: Recipe, source: SourceRecord, data: PreparedData
) -> tuple[Shot, ...]:
    """The rows that a benchmark may show: one more than it shows, each asking something else.

    So whichever of them asks what is asked, there are enough others.

    Args:
        benchmark: Its rows found.
        recipe: Whose seed chooses, and whose train partition is shown where there is no source.
        source: The recipe's rows.
        data: The recipe's dataset, prepared.

    Raises:
        DataError: there are too few, or they are malformed.
    """
    block = benchmark.block.few_shot
    if block is None:
        return ()
    if benchmark.shots is not None:
        asking = recipe.template.user
        rows = read_asked_rows(benchmark.block, benchmark.shots, asking=asking, whole=True)
        shots = [Shot.of(row.conversation, row.question) for row in rows]
        ranks = [digest_of_json([recipe.seed, s.key, s.answer]) for s in shots]
        chosen = [shots[place] for place in _distinct(_order(block, ranks), shots, block.count + 1)]
    else:
        chosen = list(_of_train(block, recipe, source, data))
    if len(chosen) < block.count:
        raise DataError(
            f"few_shot.count is {block.count}, and there are {len(chosen)} rows that ask different "
            "things"
        )
    return tuple(chosen)


def shown_shots(row: AskedRow, shots: Sequence[Shot], block: FewShot) -> tuple[Shot, ...]:
    """The shots before ``row``: never one that asks what it asks.

    Raises:
        DataError: too few are left.
    """
    key = normalized(row.question)
    left = [shot for shot in shots if shot.key != key][: block.count]
    if len(left) < block.count:
        raise DataError(
            f"few_shot.count is {block.count}, and for one of the rows only {len(left)} are left "
            "that ask something else"
        )
    return tuple(left)


def with_shots(
    conversation: Conversation, shots: Sequence[Shot], block: Benchmark
) -> tuple[Message, ...]:
    """The messages of a conversation, with ``shots`` before its question.

    Raises:
        RowError: shots are to be shown as text, and there are several turns.
    """
    messages = conversation.messages
    head = tuple(m for m in messages[:1] if m["role"] == "system")
    rest = messages[len(head) :]
    if not shots or block.few_shot is None:
        return messages
    if block.few_shot.shown == "turns":
        lead = block.delimiter if block.choices is not None else ""
        return (*head, *(turn for shot in shots for turn in _as_turns(shot, lead)), *rest)
    shown = "".join(_as_text(shot, block.delimiter, block.few_shot.separator) for shot in shots)
    asked = {"role": "user", "content": shown + _only_question(rest[:-1])}
    return (*head, asked, rest[-1])


def _as_turns(shot: Shot, lead: str) -> Iterator[Message]:
    yield from shot.turns
    yield {"role": "assistant", "content": f"{lead}{shot.answer}"}


def _as_text(shot: Shot, delimiter: str, separator: str) -> str:
    return f"{_only_question(shot.turns)}{delimiter}{shot.answer}{separator}"


def _only_question(turns: Sequence[Message]) -> str:
    if len(turns) != 1 or turns[0]["role"] != "user":
        raise RowError(
            f"has {len(turns)} turns before the answer; few_shot.shown: text needs one question"
        )
    return str(turns[0]["content"])


# Choosing


def _order(block: FewShot, ranks: Sequence[str]) -> Iterable[int]:
    """Places of rows in the order in which they are shown; ``ranks`` are of their content."""
    if block.by == "position":
        return range(len(ranks))
    return sorted(range(len(ranks)), key=ranks.__getitem__)


def _distinct(order: Iterable[int], shots: Sequence[Shot], count: int) -> list[int]:
    """The first ``count`` places whose rows ask different things."""
    found: dict[str, int] = {}
    for place in order:
        if len(found) == count:
            break
        found.setdefault(shots[place].key, place)
    return list(found.values())


def _of_train(
    block: FewShot, recipe: Recipe, source: SourceRecord, data: PreparedData
) -> Iterator[Shot]:
    """Rows of the recipe's train partition; only the chosen ones become conversations."""
    from pyarrow import parquet

    table = parquet.read_table(data.path("train"), columns=["row", "example_id", "question"])
    numbers, ids, questions = (table[name].to_pylist() for name in table.column_names)
    ranks = [digest_of_json([recipe.seed, example]) for example in ids]
    keys = [Shot(key=normalized(question), turns=(), answer="") for question in questions]
    wanted = [numbers[at] for at in _distinct(_order(block, ranks), keys, block.count + 1)]
    form = row_format(data.format, recipe.dataset.columns, recipe.template)
    found: dict[int, Shot] = {}
    last = max(wanted, default=-1)
    for number, row in enumerate(read_rows(source, form.columns)):
        if number in wanted:
            conversation = form.conversation(row.values)
            found[number] = Shot.of(conversation, conversation.question)
        if number >= last:
            break
    return (found[number] for number in wanted)
