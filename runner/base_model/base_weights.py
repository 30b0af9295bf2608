"""Which weights an adapter belongs to: the same in a folder, on the Hub, and under any name."""

from __future__ import annotations

from pathlib import Path

from runner.base_model.model_source import ModelSource
from runner.data.reading.file_stat_digests import cached_file_digest
from runner.digests import digest_of_json
from runner.recipe import Quantization


def weights_digest(source: ModelSource, block: Quantization) -> str:
    """Digest of the base model's weights as an adapter sees them.

    Their files' contents, how the checkpoint says that they are quantized, and how ``block`` has
    them rounded while they are loaded. Names, configuration and tokenizer do not count.
    """
    files = sorted(cached_file_digest(path) for path in Path(source.place).glob("*.safetensors"))
    rounded = block.model_dump(mode="json", include={"method", "bits"})
    return digest_of_json(
        {"files": files, "stored": dict(source.quantization_settings), "rounded": rounded}
    )
