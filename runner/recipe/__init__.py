"""The recipe: what is learned, from which data, how it is judged. One source of the JSON Schema.

Everything here is a frozen value. Rules that span several keys live in ``recipe_rules``; reading a
file with line numbers lives in ``recipe_file``. Paths stay as written: they are relative to the
recipe's file, and whoever opens them resolves them.
"""

from runner.recipe.answers import (
    CodeExecutionBlock,
    DecodingBlock,
    ExtractBlock,
    ExtractionBlock,
    MetricBlock,
    Server,
    StopStrings,
)
from runner.recipe.benchmark import Benchmark, Choices, FewShot
from runner.recipe.blocks import (
    INTEGRAL,
    Block,
    Count,
    Flag,
    Fraction,
    HeldOut,
    Number,
    PartitionName,
    Policy,
    StrictPolicy,
    String,
    Text,
)
from runner.recipe.dataset import (
    Columns,
    Dataset,
    LeakPolicy,
    Leaks,
    Partition,
    Rows,
    Source,
    Violations,
)
from runner.recipe.evaluation import Evaluation, GenerationTask, HeldOutSet, LmEval
from runner.recipe.gate import Claim, GateBlock, Release
from runner.recipe.learning import Calibration, Hardware, Lora, Model, Quantization, Training
from runner.recipe.recipe import Recipe
from runner.recipe.template import Template

__all__ = [
    "INTEGRAL",
    "Benchmark",
    "Block",
    "Calibration",
    "Choices",
    "Claim",
    "CodeExecutionBlock",
    "Columns",
    "Count",
    "Dataset",
    "DecodingBlock",
    "Evaluation",
    "ExtractBlock",
    "ExtractionBlock",
    "FewShot",
    "Flag",
    "Fraction",
    "GateBlock",
    "GenerationTask",
    "Hardware",
    "HeldOut",
    "HeldOutSet",
    "LeakPolicy",
    "Leaks",
    "LmEval",
    "Lora",
    "MetricBlock",
    "Model",
    "Number",
    "Partition",
    "PartitionName",
    "Policy",
    "Quantization",
    "Recipe",
    "Release",
    "Rows",
    "Server",
    "Source",
    "StopStrings",
    "StrictPolicy",
    "String",
    "Template",
    "Text",
    "Training",
    "Violations",
]
