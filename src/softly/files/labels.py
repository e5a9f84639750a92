"""A column of labels -> class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from softly._errors import InputError
from softly.files.problems import listed, problem, quoted
from softly.files.sources import Where

_REMEDY = "correct it, or name the classes in column order with --classes"


def label_indices(column: Any, classes: Sequence[str], where: Where, *, is_text: bool = False) -> NDArray[np.int64]:
    """Return the class index (rows,) of each label.

    A text is the class of that name. An integer is a class index; but if class names are themselves integers
    (columns `logit_1` to `logit_5`), it is the class of that name, so that "1" never means the second class.
    `is_text` says that integers, too, arrive as text (CSV). Floating-point labels, missing ones, unknown
    names and indices out of range are InputErrors that name the first such row.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        row = int(pc.index(column.is_null(), True).as_py())
        raise problem(where(row), "the label is missing; every row needs one")
    kind = column.type
    indices_are_names = tuple(classes) == tuple(str(index) for index in range(len(classes)))
    named_by_numbers = not indices_are_names and any(_is_number(name) for name in classes)
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.int8()), pa.int8()
    if pa.types.is_integer(kind) and not named_by_numbers:
        return _in_range(column.to_numpy(zero_copy_only=False), classes, where)
    if not pa.types.is_integer(kind) and not _is_textual(kind):
        what = f"labels are {kind}; they must be integers (class indices) or class names: convert the column"
        raise problem(where(0), what)

    # Names are compared as bytes: a damaged text is an unknown label, not an error of decoding.
    text = (column.cast(pa.string()) if pa.types.is_integer(kind) else column).cast(pa.binary())
    indices = pc.index_in(text, value_set=pa.array([name.encode() for name in classes])).cast(pa.int64())
    if is_text and indices.null_count and not named_by_numbers:
        digits = pc.if_else(pc.match_substring_regex(text, "^-?[0-9]{1,18}$"), text, None)
        numbers = digits.cast(pa.string()).cast(pa.int64())
        numbers_only = pc.and_(indices.is_null(), numbers.is_valid())
        _in_range(pc.if_else(numbers_only, numbers, 0).to_numpy(zero_copy_only=False), classes, where)
        indices = pc.coalesce(indices, numbers)
    if indices.null_count:
        row = int(pc.index(indices.is_null(), True).as_py())
        raise _unknown(where(row), text[row].as_py().decode(errors="replace"), classes)
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)


def _in_range(labels: NDArray[Any], classes: Sequence[str], where: Where) -> NDArray[np.int64]:
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        row = int(outside.argmax())
        what = f"label {labels[row]} is outside 0..{len(classes) - 1} (classes: {listed(classes)})"
        raise problem(where(row), f"{what}; {_REMEDY}")
    return labels.astype(np.int64)


def _unknown(place: str, label: str, classes: Sequence[str]) -> InputError:
    if not label:
        return problem(place, "the label is missing; every row needs one")
    remedy = "integer labels must be written without a decimal point" if _is_decimal(label) else _REMEDY
    return problem(place, f"label {quoted(label)} is none of the classes {listed(classes)}; {remedy}")


def _is_number(name: str) -> bool:
    return name.isdecimal() and name == str(int(name))


def _is_decimal(label: str) -> bool:
    whole, point, fraction = label.partition(".")
    return bool(point) and whole.lstrip("-").isdecimal() and not fraction.strip("0")


def _is_textual(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        or types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )  # fmt: skip
