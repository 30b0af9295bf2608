"""Mistral's forward pass in float64, written out: what a quantized model is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.quantization.classical_gptq import IntegerLinear


def reference_weights(folder: Path, linears: Mapping[str, IntegerLinear]) -> dict[str, np.ndarray]:
    """All weights of a checkpoint by name in float64, quantized ones multiplied out."""
    file = next(iter(sorted(folder.glob("*.safetensors"))))
    plain = {n: t for n, t in load_file(file).items() if n.endswith("weight") and "qw" not in n}
    weights = {name: tensor.astype(np.float64) for name, tensor in plain.items()}
    return weights | {f"{path}.weight": linear.weight() for path, linear in linears.items()}


def reference_logits(
    config_folder: Path, weights: Mapping[str, np.ndarray], ids: list[int]
) -> np.ndarray:
    """Logits [tokens, vocabulary] of one sequence (arXiv 2310.06825; window longer than it)."""
    config = json.loads((config_folder / "config.json").read_text())
    hidden = weights["model.embed_tokens.weight"][ids]  # [T, H]
    epsilon = config["rms_norm_eps"]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        normed = _normed(hidden, weights[at + "input_layernorm.weight"], epsilon)
        hidden = hidden + _attention(normed, weights, at + "self_attn.", config)
        normed = _normed(hidden, weights[at + "post_attention_layernorm.weight"], epsilon)
        gate = normed @ weights[at + "mlp.gate_proj.weight"].T
        up = normed @ weights[at + "mlp.up_proj.weight"].T
        silu = gate / (1 + np.exp(-gate))
        hidden = hidden + (silu * up) @ weights[at + "mlp.down_proj.weight"].T
    return _normed(hidden, weights["model.norm.weight"], epsilon) @ weights["lm_head.weight"].T


def _normed(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight


def _attention(
    x: np.ndarray, weights: Mapping[str, np.ndarray], at: str, config: dict
) -> np.ndarray:
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    tokens, width = len(x), config["hidden_size"] // config["num_attention_heads"]
    base = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]

    def split(name: str, count: int) -> np.ndarray:  # [count, T, width]
        return (x @ weights[f"{at}{name}.weight"].T).reshape(tokens, count, width).swapaxes(0, 1)

    q, k = (_rotated(split(n, c), base) for n, c in (("q_proj", heads), ("k_proj", shared)))
    k, v = (np.repeat(one, heads // shared, axis=0) for one in (k, split("v_proj", shared)))
    scores = q @ k.swapaxes(1, 2) / np.sqrt(width)  # [heads, T, T]
    scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed = (shares @ v).swapaxes(0, 1).reshape(tokens, -1)
    return mixed @ weights[f"{at}o_proj.weight"].T


def _rotated(x: np.ndarray, base: float) -> np.ndarray:
    """Rotary positions, halves apart as in transformers' Llama."""
    half = x.shape[-1] // 2
    angles = np.outer(np.arange(x.shape[1]), base ** (-np.arange(half) / half))  # [T, width / 2]
    first, second = x[..., :half], x[..., half:]
    turned = (first * np.cos(angles) - second * np.sin(angles),
              second * np.cos(angles) + first * np.sin(angles))  # fmt: skip
    return np.concatenate(turned, axis=-1)
