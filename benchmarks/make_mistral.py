"""A base model of Mistral-7B's configuration with fewer layers and random weights.

    python benchmarks/make_mistral.py folder [--layers 4]

With the quickstart's tokenizer, whose ids are among Mistral's 32,000. Written in bfloat16, from a
GPU where there is one; nothing is downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

QUICKSTART = Path(__file__).resolve().parent.parent / "recipes" / "quickstart" / "model"


def main() -> None:
    """Make it and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    torch.manual_seed(42)
    torch.set_default_dtype(torch.bfloat16)
    config = MistralConfig(sliding_window=None, num_hidden_layers=options.layers)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = MistralForCausalLM(config)
    model.save_pretrained(options.folder)
    AutoTokenizer.from_pretrained(QUICKSTART).save_pretrained(options.folder)


if __name__ == "__main__":
    main()
