"""The whole recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipe.blocks import INTEGRAL, Block, String
from runner.recipe.dataset import Dataset
from runner.recipe.evaluation import Evaluation
from runner.recipe.gate import GateBlock, Release
from runner.recipe.learning import Hardware, Lora, Model, Quantization, Training
from runner.recipe.template import Template


class Recipe(Block):
    """A whole recipe, version 1."""

    version: Literal[1] = Field(
        description="Version of the recipe format; this proofbox reads 1.",
        examples=[1],
    )
    name: Annotated[String, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)] = Field(
        description="Name of the recipe: the folder of its runs, and of its release. "
        "Lower-case letters, digits, '.', '_' and '-'.",
        examples=["mistral-7b-gptq-code"],
    )
    description: String = Field(
        default="",
        description="One sentence for people: what the adapter is for.",
        examples=["LoRA on 4-bit Mistral-7B-Instruct for Python instructions"],
    )
    seed: Annotated[int, Field(strict=True, ge=0, le=4_294_967_295), INTEGRAL] = Field(
        default=42,
        description="Seed of everything drawn at random.",
        examples=[7],
    )
    dataset: Dataset = Field(
        description="Where examples come from and what their columns mean.",
        examples=[{"source": "data/train.jsonl"}],
    )
    template: Template = Field(
        default=Template(),
        description="How an example becomes text, and which tokens are supervised.",
        examples=[{"chat": "chatml", "max_length": 1024}],
    )
    model: Model = Field(
        description="The base model that the adapter is trained on.",
        examples=[{"base": "mistralai/Mistral-7B-Instruct-v0.2"}],
    )
    quantization: Quantization = Field(
        default=Quantization(),
        description="How the base model's weights are stored.",
        examples=[{"method": "gptq", "bits": 4}],
    )
    lora: Lora = Field(
        default=Lora(),
        description="The low-rank adapter.",
        examples=[{"r": 32, "alpha": 16, "target_modules": ["q_proj", "v_proj"]}],
    )
    training: Training = Field(
        description="The optimization.",
        examples=[{"max_steps": 300, "batch_size": 4, "learning_rate": 3e-4}],
    )
    evaluation: Evaluation = Field(
        default=Evaluation(),
        description="What is measured of the adapter and of the base model.",
        examples=[{"loss": ["test"]}],
    )
    gates: Annotated[tuple[GateBlock, ...], Field(max_length=100)] = Field(
        default=(),
        description="Claims that must all hold before the adapter may be released.",
        examples=[[{"metric": "test.loss", "claim": "superior", "margin": 0.05}]],
    )
    release: Release = Field(
        default=Release(),
        description="What a release contains.",
        examples=[{"contents": "adapter"}],
    )
    hardware: Hardware = Field(
        default=Hardware(),
        description="How this machine computes it; options of the command line win.",
        examples=[{"device": "cpu", "threads": 2}],
    )
