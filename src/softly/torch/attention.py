"""softly's maps as the attention of Hugging Face transformers."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from softly._arrays import check_alpha
from softly._errors import InputError
from softly.maps import entmax


def register_attention(name: str = "softly", *, alpha: float = 1.0) -> None:
    """Make `attn_implementation=name` of transformers attend by entmax of order alpha (1: softmax, 2: sparsemax).

    Masks are boolean: an excluded key never has a share, however large its score, and a query without keys gives 0
    where an additive mask would leak. The weights are returned where a model asks for its attentions. Half precisions
    are computed in float32 and rounded once.

    Raises ImportError without transformers, ValueError for alpha below 1.

    >>> register_attention("sparsemax", alpha=2.0)  # doctest: +SKIP
    >>> model = AutoModelForCausalLM.from_config(config, attn_implementation="sparsemax")  # doctest: +SKIP
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(name, functools.partial(_attend, alpha=check_alpha(alpha, None)))
    AttentionMaskInterface.register(name, functools.partial(sdpa_mask, allow_is_causal_skip=False))


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    alpha: float,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """transformers' attention function: query (batch, heads, queries, d), key and value perhaps with fewer heads.

    Returns (batch, queries, heads, d) and the weights (batch, heads, queries, keys).
    """
    for unknown in ("softcap", "s_aux"):
        if options.get(unknown) is not None:
            raise InputError(f"{unknown}={options[unknown]} is not supported: use another attn_implementation")
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if options.get("position_bias") is not None:
        scores = scores + options["position_bias"]
    weights: Tensor = entmax(scores, alpha=alpha, where=_possible(module, scores, attention_mask, options))
    weights = torch.nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _possible(module: Any, scores: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor | None:
    """The keys that each query may attend to, as a boolean mask; None: all."""
    queries, keys = scores.shape[-2:]
    if mask is None:
        is_causal = options.get("is_causal")
        is_causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
        if not is_causal or queries == 1:
            return None
        if queries != keys:
            raise InputError(f"no mask for {queries} queries and {keys} keys: pass one that says which may attend")
        return torch.ones(queries, keys, dtype=torch.bool, device=scores.device).tril()
    if mask.dtype != torch.bool:
        raise InputError(f"attention_mask has dtype {mask.dtype}: pass a boolean mask, True = may attend")
    return mask[..., :keys]
