"""What the quantization settings of a checkpoint mean: the method, and the bits per weight."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def method_of(settings: Mapping[str, Any]) -> str | None:
    """The method's name as transformers writes it, None where nothing is quantized."""
    method = settings.get("quant_method")
    return None if method is None else str(method)


def bits_of(settings: Mapping[str, Any]) -> int | None:
    """Bits per weight, None where the settings do not tell."""
    if settings.get("bits") is not None:
        return int(settings["bits"])
    for bits in (4, 8):  # bitsandbytes
        if settings.get(f"load_in_{bits}bit"):
            return bits
    # torchao names the class of its configuration, such as Int8WeightOnlyConfig.
    found = re.search(r"[Ii]nt(\d)_?[Ww]eight", json.dumps(settings.get("quant_type", "")))
    return int(found.group(1)) if found else None
