"""Writes the table in docs/quantization.md from the registry: python docs/make_quantization.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "quantization.md"
BEGIN, END = "<!-- made by docs/make_quantization.py: begin -->", "<!-- end -->"

if TYPE_CHECKING:
    from runner.base_model.quantization import Method, Storage

HEAD = """
| method | bits | device | dtype | train | variants | kernel | merge |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
NEEDS = """
| method | what it is for | needs |
| --- | --- | --- |
"""
REFUSED_HEAD = """
| checkpoint's `quant_method` | refused, because |
| --- | --- |
"""


def quantization_markdown(page: str) -> str:
    """``page`` with the tables of the registry between its two marks."""
    sys.path.insert(0, str(ROOT))
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{_tables()}\n{END}{after}"


def _tables() -> str:
    from runner.base_model.quantization import METHODS, method_named
    from runner.base_model.quantization.checks import REFUSED

    methods = [method_named(name) for name in METHODS]
    rows = "".join(row for method in methods for row in _rows(method))
    needs = "".join(map(_need, methods))
    refused = "".join(f"| `{name}` | {reason} |\n" for name, reason in REFUSED.items())
    return f"{NEEDS}{needs}{HEAD}{rows}{REFUSED_HEAD}{refused}"


def _need(method: Method) -> str:
    needs = f"`pip install 'proofbox[{method.extra}]'`" if method.extra else "nothing"
    return f"| `{method.name}` | {method.purpose} | {needs} |\n"


def _rows(method: Method) -> Iterator[str]:
    """A row for each number of bits, device and dtype, those that cannot be too."""
    from runner.base_model.quantization.method import DEVICES, DTYPES

    for bits, storage in method.storages.items():
        for device in DEVICES:
            for dtype in DTYPES:
                able = dtype in storage.dtypes.get(device, ())
                cells = [
                    f"`{method.name}`",
                    f"{bits} ({storage.name})" if bits else "",
                    device,
                    dtype,
                    *_abilities(storage, device, able=able),
                ]
                yield f"| {' | '.join(cells)} |\n"


def _abilities(storage: Storage, device: str, *, able: bool) -> list[str]:
    """Whether it trains there, which variants, by which kernel, and whether it merges."""
    merges = "yes" if storage.merges else "no"
    if storage.untrainable:
        return [f"no: {storage.untrainable}", "", "", merges]
    if not able:
        return ["no: no kernel computes in it", "", "", merges]
    kernels = {str(name): kernel for name, kernel in storage.kernels.items()}
    return ["yes", ", ".join(storage.variants), kernels[device], merges]


if __name__ == "__main__":
    TARGET.write_text(quantization_markdown(TARGET.read_text("utf-8")), encoding="utf-8")
