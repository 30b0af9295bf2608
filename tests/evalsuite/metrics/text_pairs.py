"""Pairs of answer and reference: embedded ones always, real ones where shared data is there."""

from __future__ import annotations

import json
import random
from pathlib import Path

Pairs = tuple[list[str], list[str]]

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
PAIRS = 200
_LONGEST = 250  # characters; sacrebleu's edit rate takes seconds for a long text

TEXTS = [
    "The Apollo program was carried out by NASA from 1961 to 1972, and cost about $25.4 billion.",
    "def add(a, b):\n    return a + b",
    "Der Zug fährt um 7:45 Uhr ab — nicht um 8!",
    "Natalia sold 48/2 = 24 clips in May.\n#### 72",
    "“I'd rather not,” she said; “it's the 3rd time.”",
    "東京は日本の首都です。人口は約1,400万人。",
    "A quick brown fox jumps over the lazy dog. The dog sleeps.",
    '{"name": "Ada", "born": 1815, "tags": ["maths", "poetry"]}',
    "x",
    "",
    "the the the the",
    "U.S. GDP grew 2.1% in Q4 (vs. 4.9% in Q3).",
    "¿Dónde está la biblioteca? Está allí, a 1.000 metros.",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    "1. First\n2. Second\n3. Third",
    "Es ist ein naïver Café-Besuch.",
    "import os\n\nprint(os.environ['HOME'])",
    "An apple a day keeps the doctor away.",
    "Yes.",
    "\t  spaces  and\ttabs \n",
]


def embedded_pairs() -> Pairs:
    """200 pairs of equal, edited and unrelated texts."""
    return _pairs(TEXTS)


def real_pairs() -> Pairs | None:
    """200 pairs made from real rows, or None where the shared data is not there."""
    alpaca, gsm8k = SHARED / "code_alpaca_2k.json", SHARED / "gsm8k_train_3000.jsonl"
    if not (alpaca.is_file() and gsm8k.is_file()):
        return None
    texts = [row["output"] for row in json.loads(alpaca.read_text("utf-8"))]
    texts += [json.loads(line)["answer"] for line in gsm8k.read_text("utf-8").splitlines()]
    short = [text for text in texts if 0 < len(text) <= _LONGEST]
    return _pairs(random.Random(1).sample(short, PAIRS))


def _pairs(texts: list[str]) -> Pairs:
    chosen = random.Random(7)
    references = [texts[place % len(texts)] for place in range(PAIRS)]
    return [_answer(text, texts, chosen) for text in references], references


def _answer(reference: str, texts: list[str], chosen: random.Random) -> str:
    """What a model might have written: the same, another text, or one with words changed."""
    words = reference.split()
    kept = [word for word in words if chosen.random() > 0.3]
    swapped = list(words)
    for _ in range(min(2, len(words) // 2)):
        one, other = chosen.sample(range(len(words)), 2)
        swapped[one], swapped[other] = swapped[other], swapped[one]
    variants = [
        reference,
        chosen.choice(texts),
        " ".join(kept),
        " ".join(swapped),
        " ".join([*words, *words[:3], "indeed"]),
        f"The answer: {reference.upper()}",
        f"The  {reference.lower()}!",
    ]
    return chosen.choice(variants)
