"""logsumexp with weights as an operator of torch: y = log |S| for S = sum w exp(z / T), and the sign of S.

With e_i = exp(z_i / T) / S the derivatives are w_i e_i / T in a score, e_i in a weight (also where it is 0) and
-sum w_i e_i z_i / T^2 in T. e is sign exp((z - c) / T - y of z - c) for any c: the largest score is taken, so that no
offset costs digits. Where y or a score is infinite derivatives are 0. Complex sums: `_moved`.
"""

from __future__ import annotations

import math
from typing import Any

import array_api_compat.torch as xp
import torch
from torch import Tensor

from softly import _signed_sums
from softly._arrays import as_array
from softly._rows import as_rows, raise_if_empty
from softly.torch import memory
from softly.torch.derivatives import groups_of, over_temperature
from softly.torch.operators import are_numbers, batch_first, is_traced, refuse_nested_forward_mode, tensor_or_float


def signed_logsumexp(
    scores: Tensor,
    axis: Any,
    temperature: Any,
    where: Any,
    empty: Any,
    out: Any,
    weights: Any,
    return_sign: bool,
    keepdims: bool,
) -> Any:
    """`softly.logsumexp` of tensors with weights, return_sign or complex scores."""
    arguments = axis, where, empty, out, return_sign, keepdims
    if (lent := _lent(scores, temperature, weights, *arguments)) is not None:
        return lent
    tensors = [x if isinstance(x, Tensor) else None for x in (scores, weights, temperature)]
    if out is not None or (are_numbers(*tensors) and not is_traced(scores)):
        return _signed_sums.evaluate(scores, axis, temperature, where, empty, out, weights, return_sign, keepdims)
    if scores.is_complex() or _signed_sums.is_complex_array(weights):
        fixed: list[Any] = [x.detach() if isinstance(x, Tensor) else x for x in (scores, temperature, weights)]
        found = _lent(fixed[0], fixed[1], fixed[2], *arguments)
        if found is None:
            found = _signed_sums.evaluate(fixed[0], axis, fixed[1], where, empty, out, fixed[2], return_sign, keepdims)
        return _moved(found, scores, axis, temperature, where, weights, keepdims)
    rows = as_rows(scores, axis, temperature, where, empty, None, reduces=True, keepdims=keepdims, half_in="float64")
    z = rows.scores.double()
    if weights is None:
        w = torch.ones_like(z)
    else:
        w = rows.arrange(_signed_sums.weights_like(xp, as_array(weights, "weights")[1], scores)).double()
    w = torch.where(z == -math.inf, 1.0, w)
    nothing = torch.all((z == -math.inf) | (w == 0), dim=-1)
    if empty == "raise":
        raise_if_empty(xp, nothing, "row")
    size, sign = run(z, w, rows.temperature)
    if empty == "nan":
        size, sign = (torch.where(nothing, math.nan, x) for x in (size, sign))
    if return_sign:
        return rows.restore(size), rows.restore(sign)
    return rows.restore(torch.where(sign < 0, math.nan, size))


def _lent(
    scores: Tensor, temperature: Any, weights: Any, axis: Any, where: Any, empty: Any, out: Any, *options: bool
) -> Any:
    """What NumPy's way gives, of tensors that can be lent to it; else None."""
    if (lent := memory.lend(scores, temperature, where, weights, out=out)) is None:
        return None
    z, t, mask, w = lent
    found = _signed_sums.signed_logsumexp(z, axis, t, mask, empty, out, w, *options)
    return_sign = options[0]
    taken = tuple(memory.take_back(result, scores) for result in (found if return_sign else (found,)))
    return taken if return_sign else taken[0]


def _moved(found: Any, scores: Tensor, axis: Any, temperature: Any, where: Any, weights: Any, keepdims: bool) -> Any:
    """What was found of complex numbers, with derivatives of every order.

    log S = y + log sum w exp(z / T - y) for any constant y: at y = log S the second logarithm is 0 and moves as log S
    does, without the corners of the way to its value.
    """
    real = scores.real if scores.is_complex() else scores
    rows = as_rows(real, axis, temperature, where, "zero", None, reduces=True, keepdims=keepdims, half_in="float64")
    z = rows.arrange(scores).to(torch.complex128)
    w = torch.ones_like(z)
    if weights is not None:
        w = rows.arrange(_signed_sums.weights_like(xp, weights, scores)).to(torch.complex128)
    t = torch.as_tensor(rows.temperature, dtype=torch.float64, device=z.device)
    t = (t if t.ndim else t.expand(z.shape[:-1])).unsqueeze(-1)
    possible, at = (rows.scores > -math.inf).detach(), t.detach()
    top = torch.where(possible & (w != 0), z.real, -math.inf).amax(-1, keepdim=True).detach()
    top = torch.where(torch.isfinite(top), top, 0.0)
    shifted = (z - top).detach()
    y: Any = _signed_sums.evaluate(shifted, -1, at[..., 0], possible, "zero", None, w.detach(), False, True)
    moves = torch.isfinite(y) & (at > 0) & (at < math.inf)
    used = possible & moves & torch.isfinite(z.detach()) & ((w != 0) | (shifted.real < 700 * at))
    x = torch.where(used, z - top, 0.0) / torch.where(moves, t, 1.0)
    terms = torch.where(used, torch.exp(torch.where(used, x - torch.where(moves, y, 0.0), 0.0)), 0.0)
    total = torch.where(moves, torch.sum(torch.where(used, w, 0.0) * terms, dim=-1, keepdim=True), 1.0)
    change = torch.log(total) + torch.where(moves, top, 0.0) / torch.where(moves, t, 1.0)
    change = change - change.detach()  # 0, but for its derivatives
    if not isinstance(found, tuple):
        return found + change.reshape(found.shape).to(found.dtype)
    size, sign = found
    turned = torch.exp(1j * change.imag).reshape(sign.shape)
    return size + change.real.reshape(size.shape).to(size.dtype), sign * turned.to(sign.dtype)


def run(scores: Tensor, weights: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """The operator on rows of float64."""
    temperatures, fixed = tensor_or_float(temperature)
    if is_traced(scores):
        size, sign = _operator(scores, weights, temperatures, fixed)
    else:
        refuse_nested_forward_mode()
        size, sign = SignedSum.apply(scores, weights, temperatures, fixed)
    return size, sign


class SignedSum(torch.autograd.Function):
    """log |S| and the sign of S of each row."""

    @staticmethod
    def forward(scores: Tensor, weights: Tensor, temperature: Tensor | None, fixed: float) -> tuple[Tensor, Tensor]:
        """The value, by the compiled core's side where tensors can be lent."""
        t = fixed if temperature is None else temperature.detach()
        z, w = scores.detach(), weights.detach()
        if (lent := memory.lend(z, t, w)) is not None:
            found = _signed_sums.signed_logsumexp(lent[0], -1, lent[1], None, "zero", None, lent[2], True, False)
            return memory.take_back(found[0], z), memory.take_back(found[1], z)
        size, sign = _signed_sums.evaluate(z, -1, t, None, "zero", None, w, True, False)
        return size.contiguous(), sign.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """The derivatives need everything."""
        scores, weights, temperature, ctx.fixed = inputs
        if hasattr(ctx, "mark_non_differentiable"):
            ctx.mark_non_differentiable(output[1])
        saved = scores, weights, temperature, *output
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, _: Any) -> tuple[Any, ...]:
        """The gradients in scores, weights and temperatures."""
        in_weights, in_scores, in_temperature = _slopes(ctx)
        column = cotangent[..., None]
        return (
            column * in_scores,
            column * in_weights,
            (column * in_temperature).sum(-1) if ctx.needs_input_grad[2] else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, scores: Any, weights: Any, temperature: Any, _: Any) -> tuple[Tensor, None]:
        """The derivative of log |S| along tangents."""
        in_weights, in_scores, in_temperature = _slopes(ctx)
        tangent = torch.zeros_like(in_scores)
        if scores is not None:
            tangent = tangent + in_scores * scores
        if weights is not None:
            tangent = tangent + in_weights * weights
        if temperature is not None:
            tangent = tangent + in_temperature * temperature[..., None]
        return tangent.sum(-1), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, tuple[int, int]]:
        """One more axis in front of the rows."""
        *tensors, fixed = inputs
        moved = [
            None if x is None else batch_first(x, d, info.batch_size) for x, d in zip(tensors, in_dims[:3], strict=True)
        ]
        return SignedSum.apply(*moved, fixed), (0, 0)


def _slopes(ctx: Any) -> tuple[Tensor, Tensor, Tensor]:
    """d y in each weight and score, and what each entry adds to d y in T."""
    scores, weights, temperature, size, sign = ctx.saved_tensors
    t = ctx.fixed if temperature is None else temperature
    endless = torch.isinf(scores) | torch.isinf(size)[..., None]
    used = ~torch.isinf(scores) & (weights != 0)
    top = torch.where(used, scores, -math.inf).amax(-1, keepdim=True).detach()
    top = torch.where(torch.isinf(top), 0.0, top)
    z = torch.where(endless, 0.0, scores) - torch.where(endless, 0.0, top)
    shifted_size, _ = run(torch.where(torch.isinf(scores), scores, scores - top), weights, t)
    groups = groups_of(z, t, None)
    exponent = over_temperature(groups, z) - torch.where(torch.isinf(size), 0.0, shifted_size)[..., None]
    in_weights = torch.where(endless, 0.0, sign[..., None] * torch.exp(exponent))
    in_scores = over_temperature(groups, torch.where(weights == 0, 0.0, weights * in_weights))
    return in_weights, in_scores, -in_scores * over_temperature(groups, torch.where(endless, 0.0, scores))


@torch.library.custom_op("softly::signed_sum", mutates_args=())
def _operator(scores: Tensor, weights: Tensor, temperature: Tensor | None, fixed: float) -> tuple[Tensor, Tensor]:
    return SignedSum.forward(scores, weights, temperature, fixed)


@_operator.register_fake
def _(scores: Tensor, weights: Tensor, temperature: Tensor | None, fixed: float) -> tuple[Tensor, Tensor]:
    return scores.new_empty(scores.shape[:-1]), scores.new_empty(scores.shape[:-1])


_operator.register_autograd(SignedSum.backward, setup_context=SignedSum.setup_context)
