"""softly.attention against torch's scaled_dot_product_attention on torch's own samples, and ONNX's attention cases."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest
import semantics

import softly

pytestmark = pytest.mark.skipif(semantics.FORCED, reason="told for the default target")
LIMITS = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-14}


# ---------------------------------------------------------------- torch


@functools.cache
def samples(dtype: Any) -> list[Any]:
    """torch's samples, their random dropout left out."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    pytest.importorskip("expecttest", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's testing code
        from torch.testing._internal.common_methods_invocations import op_db

        (info,) = [info for info in op_db if info.name == "nn.functional.scaled_dot_product_attention"]
        drawn = list(info.sample_inputs("cpu", getattr(torch, dtype), requires_grad=False))
    for sample in drawn:
        sample.kwargs.pop("dropout_p", None)
    return drawn


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_values_and_gradients_on_torchs_own_samples(dtype: str) -> None:
    torch = pytest.importorskip("torch", exc_type=ImportError)
    drawn = samples(dtype)
    assert len(drawn) > 20
    limit = 20 * LIMITS[dtype]  # entries up to 9, scores up to 100
    for sample in drawn:
        theirs = [x.detach().double().requires_grad_() for x in (sample.input, *sample.args)]
        ours = [x.detach().requires_grad_() for x in (sample.input, *sample.args)]
        causal, mask = sample.kwargs.get("is_causal", False), sample.kwargs.get("attn_mask")
        wide = None if mask is None else mask.detach().double().requires_grad_()
        narrow = None if mask is None else mask.detach().requires_grad_()
        truth = torch.nn.functional.scaled_dot_product_attention(*theirs, attn_mask=wide, is_causal=causal)
        found = softly.attention(*ours, bias=narrow, causal=causal, align="top-left" if causal else None)
        assert found.dtype == ours[0].dtype
        torch.testing.assert_close(found.double(), truth, rtol=limit, atol=limit)
        cotangent = torch.linspace(-1, 1, truth.numel(), dtype=torch.float64).reshape(truth.shape)
        cotangent = cotangent.to(found.dtype)
        if mask is not None:
            theirs, ours = [*theirs, wide], [*ours, narrow]
        expected = torch.autograd.grad(truth, theirs, cotangent.double())
        for mine, exact in zip(torch.autograd.grad(found, ours, cotangent), expected, strict=True):
            torch.testing.assert_close(mine.double(), exact, rtol=4 * limit, atol=4 * limit)


# ---------------------------------------------------------------- ONNX

LACKING = {"softcap"}  # attributes of ONNX's operator that softly.attention has no argument for


@functools.cache
def cases() -> list[Any]:
    pytest.importorskip("onnx", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the data that onnx makes
        from onnx.backend.test.case import node

        return [case for case in node.collect_testcases("Attention") if "expanded" not in case.name]


def in_heads(x: Any, heads: int) -> Any:
    """(batch, length, heads * d) as (batch, heads, length, d)."""
    return x if x.ndim == 4 else np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def mask_of(options: dict[str, Any], causal: bool, past: int, lengths: Any, queries: int, keys: int) -> Any:
    """What ONNX lets a query see: causal from the first query on, after the past, windows, padding at the end."""
    offset = np.array([past]) if lengths is None or not causal else lengths - queries
    if past == 0 and lengths is not None:
        offset = lengths - queries
    place = np.arange(queries)[:, None] + offset[:, None, None, None]
    key, where = np.arange(keys), np.ones((1, 1, queries, keys), bool)
    if causal:
        where = where & (key <= place)
    if options.get("left_window_size", -1) >= 0:
        where = where & (key >= place - options["left_window_size"])
    if options.get("right_window_size", -1) >= 0:
        where = where & (key <= place + options["right_window_size"])
    return where if lengths is None else where & (key < lengths[:, None, None, None])


@pytest.mark.slow  # onnx makes the data of all its cases first
def test_values_are_those_of_onnx() -> None:
    onnx = pytest.importorskip("onnx", exc_type=ImportError)
    run = 0
    for case in cases():
        node = case.model.graph.node[0]
        options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if LACKING & {name for name, value in options.items() if value}:
            continue
        for inputs, outputs in case.data_sets:
            given = _named(("Q", "K", "V", "mask", "past_key", "past_value", "lengths"), node.input, inputs)
            made = _named(("Y", "present_key", "present_value", "weights"), node.output, outputs)
            query = in_heads(given["Q"], options.get("q_num_heads", 1))
            key, value = (in_heads(given[name], options.get("kv_num_heads", 1)) for name in "KV")
            past = 0
            if given.get("past_key") is not None:
                past = given["past_key"].shape[2]
                key = np.concatenate([given["past_key"], key], axis=2)
                value = np.concatenate([given["past_value"], value], axis=2)
            queries, keys = query.shape[2], key.shape[2]
            causal, mask, bias = bool(options.get("is_causal")), given.get("mask"), None
            where = mask_of(options, causal, past, given.get("lengths"), queries, keys)
            if mask is not None and mask.shape[-1] < keys:
                fill = np.array(False if mask.dtype == bool else -np.inf, mask.dtype)
                mask = np.concatenate([mask, np.full((*mask.shape[:-1], keys - mask.shape[-1]), fill)], axis=-1)
            if mask is not None and mask.dtype == bool:
                where = where & mask
            elif mask is not None:
                bias = mask
            arguments = {"scale": options.get("scale"), "where": where, "bias": bias}
            found = softly.attention(query, key, value, **arguments)
            expected = in_heads(made["Y"], options.get("q_num_heads", 1))
            assert found.dtype == expected.dtype, case.name
            limit = 2 * LIMITS[found.dtype.name]
            exact = expected.astype(np.float64)
            np.testing.assert_allclose(found.astype(np.float64), exact, atol=limit, rtol=limit, err_msg=case.name)
            if made.get("weights") is not None and options.get("qk_matmul_output_mode") == 3:
                weights = softly.attention_weights(query, key, **arguments)
                np.testing.assert_allclose(weights, made["weights"], atol=2e-3, err_msg=case.name)
            run += 1
    assert run >= 70


def _named(names: Any, declared: Any, arrays: Any) -> dict[str, Any]:
    """Arrays by their names, without the optional ones that ONNX leaves out."""
    present = (name for name, given in zip(names, declared, strict=False) if given)
    return dict(zip(present, arrays, strict=True))
