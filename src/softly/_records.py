"""Results as frozen records: plain numbers for JSON, and lines to read."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

_SHOWN = 6  # of an array's numbers or a tuple's entries, and significant digits


class Record:
    """The base of what measurements and fits return; its subclasses are dataclasses."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts; NaN becomes None, infinity the string "inf"."""
        plain: dict[str, Any] = as_plain(self)
        return plain

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def __str__(self) -> str:
        return as_lines(type(self).__name__, {item.name: getattr(self, item.name) for item in fields(self)})  # type: ignore[arg-type]


def as_plain(value: Any) -> Any:
    """`value` in the types of JSON, which has neither NaN nor infinity."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: as_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def as_lines(heading: str, values: dict[str, Any]) -> str:
    """One line a value, their names aligned; records within are indented below theirs."""
    width = max(map(len, values), default=0)
    return "\n".join(
        [heading, *(f"  {name.replace('_', ' '):{width}}  {_text(item)}" for name, item in values.items())]
    )


def _text(value: Any) -> str:
    if isinstance(value, Record):
        return _indented(value)
    if isinstance(value, tuple) and any(isinstance(item, Record | str) for item in value):
        return "".join(f"\n    - {_indented(item)}" for item in value)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return _text(value[()])
    if isinstance(value, float | np.floating):
        return f"{value:.{_SHOWN}g}"
    if isinstance(value, np.ndarray) and value.size > _SHOWN:
        least, most = (_text(edge(value)) for edge in (np.min, np.max))
        return f"{' x '.join(map(str, value.shape))} numbers from {least} to {most}"
    if isinstance(value, np.ndarray | tuple):
        return "[" + ", ".join(_text(item) for item in np.ravel(np.asarray(value)).tolist()) + "]"
    return str(value)


def _indented(value: Any) -> str:
    return str(value).replace("\n", "\n    ")
