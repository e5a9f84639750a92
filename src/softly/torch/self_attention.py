"""Self-attention with learned projections, at any alpha, its weights in sight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softly._arrays import check_alpha
from softly._errors import InputError
from softly.dot_product_attention import attention, attention_weights


class SelfAttention(nn.Module):
    """Each position of a sequence averages all of them: attention among learned queries, keys and values of one input.

    y = output(heads side by side of softly.attention(query(x), key(x), value(x))), the four linear layers learned.

    - width: of the input and the result; heads: how many parts of it attend on their own, a divisor of it.
    - causal: a position sees itself and what is before it.
    - alpha: 1 is softmax, 2 sparsemax, as `softly.entmax`.
    - bias: whether the linear layers have one; dtype: of all parameters (default: torch's default).

    Raises ValueError for a width that the heads do not divide, or an alpha below 1.

    >>> import torch
    >>> layer = SelfAttention(8, heads=2, alpha=1.5)
    >>> layer(torch.zeros(3, 5, 8)).shape, layer.weights(torch.zeros(3, 5, 8)).shape
    (torch.Size([3, 5, 8]), torch.Size([3, 2, 5, 5]))
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        *,
        causal: bool = False,
        alpha: float = 1.0,
        bias: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise InputError(f"width={width} and heads={heads}: heads must divide the width")
        self.width, self.heads, self.causal, self.alpha = width, heads, causal, check_alpha(alpha, None)
        self.query, self.key, self.value, self.output = (
            nn.Linear(width, width, bias=bias, dtype=dtype) for _ in range(4)
        )

    def forward(self, x: Tensor, *, where: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """The averages, in the shape of x.

        - x: (..., length, width).
        - where: boolean, broadcast to (..., length, length), True = position j is possible for position i.
        - weights: (..., heads, length, length), to average with these in place of `self.weights(x)`: to see what
          depends on them.
        """
        value = self._in_heads(self.value, x)
        if weights is None:
            query, key = self._in_heads(self.query, x), self._in_heads(self.key, x)
            average = attention(query, key, value, alpha=self.alpha, causal=self.causal, where=_for_heads(where))
        else:
            average = weights @ value
        found: Tensor = self.output(average.transpose(-2, -3).flatten(-2))
        return found

    def weights(self, x: Tensor, *, where: Tensor | None = None) -> Tensor:
        """The weights that `forward` averages with, (..., heads, length, length): row i is position i's."""
        query, key = self._in_heads(self.query, x), self._in_heads(self.key, x)
        found: Tensor = attention_weights(query, key, alpha=self.alpha, causal=self.causal, where=_for_heads(where))
        return found

    def extra_repr(self) -> str:
        """What is not learned."""
        return f"heads={self.heads}, causal={self.causal}, alpha={self.alpha:g}"

    def _in_heads(self, layer: nn.Module, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[-1] != self.width:
            raise InputError(f"x has shape {tuple(x.shape)}: pass (..., length, {self.width})")
        projected: Tensor = layer(x)
        return projected.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


def _for_heads(where: Tensor | None) -> Tensor | None:
    """A mask of sequences as one of their heads."""
    return where.unsqueeze(-3) if where is not None and where.ndim > 2 else where
