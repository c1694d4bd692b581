"""Matrix products whose factors may be rounded, added up and handed on in float32.

Logits rounded to bfloat16 tie at the top and are off by percents of a nat, so no
product with the unembedding is rounded, whatever its factors are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write a product into `out`, added up in its type, whatever autocast is on.

    Args:
        left: ``(B, K)``, taken in the type of `right`.
        right: ``(K, O)``.
        out: ``(B, O)``, of the same type or of a finer one.
    """
    left = left.to(right.dtype)
    if right.dtype == out.dtype:
        torch.mm(left, right, out=out)
    elif right.is_cuda:
        torch.mm(left, right, out_dtype=out.dtype, out=out)
    else:
        in_two_parts(left, right, out)


def in_two_parts(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write a product of rounded factors, where the library rounds products as well.

    The second part is what rounding took from the first: subtracted before the sum is
    rounded, it keeps as many digits again.
    """
    rounded = left @ right
    out.copy_(rounded).add_(torch.addmm(rounded, left, right, beta=-1.0))
