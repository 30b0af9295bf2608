"""A preview page that no tokenizer was needed for: rows, tokens and problems, made up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from made_up_run import HOSTILE, RunSpec, data_of

from reports.leak_pairs import LeakPair, PairSide
from reports.preview_page import PreviewPage
from reports.preview_rows import PreviewRow
from reports.problem_rows import ProblemRow
from reports.run_records import ExampleToken, PreparedData

WORSE = (
    "</textarea></pre></details><script>window.ran = 1</script>",
    "\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\ \x1b]0;title\x07 \x1b[2J\x1b[10A",
    "\u2066\u202eabc\u2069 \u200f\u061c",
    "\" onmouseover=alert(1) x='",
    "&lt;b&gt; &amp; <!-- comment --> ]]>",
    "javascript:alert(1) <a href=javascript:alert(1)>x</a> <svg onload=alert(1)>",
)
HOSTILE_TEXTS = (*HOSTILE, *WORSE)


@dataclass
class PageSpec:
    """What a made-up page shows: ``texts`` are the answers of the first train rows."""

    rows: int = 20
    texts: tuple[str, ...] = HOSTILE_TEXTS
    problems: tuple[ProblemRow, ...] = ()
    pairs: tuple[LeakPair, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    max_length: int = 256
    tokens: int = 0


def page_of(spec: PageSpec) -> PreviewPage:
    rows = [example(n, "train", text_of(spec, n), spec.tokens) for n in range(spec.rows)]
    rows += [example(1000 + n, "test", f"Held out {n}.", spec.tokens) for n in range(spec.rows)]
    rows += [
        PreviewRow(row=p.row, partition=p.partition, place=p.place, tokens=(), prompt_tokens=0,
                   text=p.text)
        for p in spec.problems if p.outcome == "dropped"
    ]  # fmt: skip
    values = data_of(RunSpec()) | spec.data
    return PreviewPage(
        recipe_name="quickstart",
        recipe_file="quickstart.yaml",
        proofbox="0.1.0",
        max_length=spec.max_length,
        data=PreparedData.model_validate_json(json.dumps(values)),
        problems=spec.problems,
        pairs=spec.pairs,
        rows=tuple(rows),
    )


def text_of(spec: PageSpec, number: int) -> str:
    return spec.texts[number] if number < len(spec.texts) else f"An answer to question {number}."


def example(row: int, partition: str, answer: str, more: int) -> PreviewRow:
    prompt = [ExampleToken(text="<s>", supervised=False, special=True)]
    prompt += [ExampleToken(text=t, supervised=False) for t in ("[INST]", f" Q{row}\n", "[/INST]")]
    pieces = [answer[i : i + 40] for i in range(0, len(answer), 40)] + ["word "] * more
    answers = [ExampleToken(text=piece, supervised=True) for piece in pieces]
    return PreviewRow(
        row=row,
        partition=partition,
        place="",
        tokens=(*prompt, *answers, ExampleToken(text="</s>", supervised=True, special=True)),
        prompt_tokens=len(prompt),
        text="",
    )


def problem(row: int, rule: str, outcome: str, **values: Any) -> ProblemRow:
    fields = {
        "place": f"rows.jsonl:{row + 1}", "partition": "train", "detail": "", "tokens": 0,
        "text": json.dumps({"instruction": f"row {row}"}), **values,
    }  # fmt: skip
    return ProblemRow(row=row, rule=rule, outcome=outcome, **fields)


PROBLEMS = (
    problem(2, "empty_answer", "kept", detail="the answer has no visible character"),
    problem(3, "too_long", "cut", tokens=310, detail="310 tokens, cut to 251"),
    problem(500, "special_token_in_text", "dropped",
            detail="the user's text holds '</s>'", text="{\"output\": \"" + WORSE[0] + "\"}"),
    problem(501, "too_long", "dropped", tokens=900, detail="900 tokens", text=WORSE[1]),
)  # fmt: skip


def pair(kind: str, similarity: float, first: str, second: str) -> LeakPair:
    return LeakPair(
        kind=kind,
        by="prompt",
        similarity=similarity,
        first=PairSide(partition="train", row=8, text=first),
        second=PairSide(partition="test", row=1003, text=second),
    )


LEAKS = {
    "counts": [
        {
            "kind": kind, "by": "prompt", "first": "train", "second": "test", "pairs": pairs,
            "first_rows": pairs, "second_rows": pairs, "policy": policy, "at_least": False,
        }
        for kind, pairs, policy in (("exact", 3, "drop_from_train"), ("near", 0, "warn"))
    ],
    "compared": {"train": 2520, "test": 240},
    "dropped": 3,
    "listed": 100,
    "leaked": {"test": 2},
    "unsettled": {},
}  # fmt: skip
PAIRS = (
    pair("exact", 1.0, HOSTILE_TEXTS[0], WORSE[0]),
    pair("near", 0.83, "left text", f"right text {WORSE[1]}"),
)
