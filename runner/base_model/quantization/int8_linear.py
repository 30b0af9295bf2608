"""bitsandbytes' int8 layer with only its weights rounded, in evaluation as in training."""

from __future__ import annotations

import torch
from bitsandbytes.autograd._functions import MatMul8bitFp
from bitsandbytes.nn import Linear8bitLt


class WeightsOnlyLinear8bit(Linear8bitLt):  # type: ignore[misc]  # bitsandbytes has no types
    """Multiplies by the weights as they are stored, int8 times a scale for each row.

    By itself the layer also rounds activations to int8 while it is evaluated, all but columns with
    outliers, which it looks for in the whole batch. So an example's loss would depend on the others
    (42.18 became 42.22 in another batch), and what is judged would not be what was trained.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out], in the type of ``x``; the gradient of ``x`` too."""
        if self.weight.CB is not None:
            self.init_8bit_state()
        bias = None if self.bias is None else self.bias.to(x.dtype)
        product: torch.Tensor = MatMul8bitFp.apply(x, self.weight, None, bias, self.state)
        self.weight.data = self.state.CB  # as the layer itself does, for whoever reads or saves it
        return product
