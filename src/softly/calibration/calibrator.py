"""The fitted object: scores to calibrated probabilities, and to readable JSON and back."""

from __future__ import annotations

import json
import math
import reprlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from softly._arrays import plain_array
from softly._errors import DegenerateFitWarning, InputError
from softly.calibration.engines import ArrayStream, fit_stream
from softly.calibration.kinds import KINDS, Kind, label_vector, score_matrix, to_logits
from softly.calibration.temperature import Status, TemperatureFit, temperature_interval
from softly.maps import softmax

Method = Literal["temperature"]
METHODS: tuple[Method, ...] = get_args(Method)
FORMAT, VERSION = "softly-calibrator", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrator:
    """Turns a classifier's scores into probabilities: softmax(scores / temperature).

    `standard_error` and `interval` (95 %, symmetric in log T) come from the observed information; they are None unless
    `status` is "ok". `log_loss` and `log_loss_before` are means over the rows fitted.
    """

    method: Method
    kind: Kind
    classes: tuple[str, ...]
    temperature: float
    standard_error: float | None
    interval: tuple[float, float] | None
    status: Status
    rows: int
    log_loss_before: float
    log_loss: float

    def apply(self, scores: Any) -> NDArray[Any]:
        """Calibrated probabilities (rows, classes) of scores (rows, classes), or (rows,) for the binary pair [0, s].

        float32 scores give float32, others float64 (half precisions float32). The largest entry of a row stays where
        it is, so accuracy does not change. ValueError for another number of classes, or rows that are not of `kind`
        probabilities or log_probabilities where that was declared.
        """
        matrix = score_matrix(scores)
        if matrix.shape[1] != len(self.classes):
            raise InputError(
                f"scores have {matrix.shape[1]} classes, but this calibrator was fitted on {len(self.classes)} "
                f"({_listed(self.classes)}): pass the columns it was fitted on"
            )
        probabilities: NDArray[Any] = softmax(
            to_logits(matrix, self.kind, trust=True), axis=1, temperature=self.temperature
        )
        return probabilities

    def to_dict(self) -> dict[str, Any]:
        """Every field, with the format's name and version first."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    def to_json(self) -> str:
        """Readable JSON; numbers keep every bit."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Calibrator:
        """The calibrator that `to_json` wrote; ValueError says what is wrong with any other text."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"calibrator: not JSON ({error}): pass what Calibrator.to_json() wrote") from None
        return cls(**_checked(data))


def fit_calibrator(
    scores: Any,
    labels: Any,
    kind: Kind = "logits",
    method: Method = "temperature",
    sample_weight: Any = None,
    *,
    classes: Sequence[str] | None = None,
) -> Calibrator:
    """Fit the map from scores to honest probabilities by maximum likelihood.

    scores: (rows, classes), any real dtype, -inf allowed for impossible classes; (rows,) means the binary pair [0, s].
    labels: (rows,) integers in [0, classes). kind: what the scores are. sample_weight: (rows,) >= 0; a weight counts
    repetitions. classes: names; default "0", "1", ...

    The temperature solves <z, p> = z_y on average; it exists if and only if the scores beat a guess and some label does
    not have the largest score. Otherwise T = 1 is kept, `status` says why, and DegenerateFitWarning is given.

    Raises ValueError that names the row for NaN, +inf, -inf at a label, labels out of range, no rows, or scores that
    contradict `kind`. Source: Guo et al., 2017; Platt, 1999.

    >>> calibrator = fit_calibrator([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0]], [0, 0, 1])
    >>> round(calibrator.temperature, 3), calibrator.status
    (2.518, 'ok')
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is not one of {', '.join(map(repr, METHODS))}")
    matrix = score_matrix(scores)
    rows, columns = matrix.shape
    if not rows:
        raise InputError("scores have no rows: give at least one row and its label")
    vector = label_vector(labels, rows, columns)
    weights = None if sample_weight is None else _weights(sample_weight, rows)
    names = tuple(map(str, range(columns))) if classes is None else tuple(map(str, classes))
    if len(names) != columns or len(set(names)) != columns or not all(map(_is_name, names)):
        raise InputError(
            f"classes has {len(names)} names ({_listed(names)}): pass {columns} different ones, none empty"
        )
    (fit,) = fit_stream(ArrayStream(to_logits(matrix, kind), vector, weights))
    for message in fit.warnings:
        warnings.warn(message, DegenerateFitWarning, stacklevel=2)
    return from_fit(fit, kind, names)


def from_fit(fit: TemperatureFit, kind: Kind, classes: tuple[str, ...]) -> Calibrator:
    """The calibrator of a temperature fit."""
    return Calibrator(
        method="temperature",
        kind=kind,
        classes=classes,
        temperature=fit.temperature,
        standard_error=fit.standard_error,
        interval=fit.interval,
        status=fit.status,
        rows=fit.rows,
        log_loss_before=fit.log_loss_before,
        log_loss=fit.log_loss,
    )


def _weights(sample_weight: Any, rows: int) -> NDArray[np.float64]:
    given = plain_array(sample_weight, "sample_weight")
    if given.dtype.kind not in "biuf":
        raise InputError(f"sample_weight has dtype {given.dtype}: pass real numbers")
    weights = np.ascontiguousarray(given, dtype=np.float64)
    if weights.shape != (rows,):
        raise InputError(f"sample_weight has shape {weights.shape}: pass one for each of the {rows} rows of scores")
    bad = ~((weights >= 0) & np.isfinite(weights))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"sample_weight, row {row}: {weights[row]} is not a finite weight >= 0")
    if not weights.any():
        raise InputError("sample_weight is 0 everywhere: give some row a positive weight")
    return weights


def _is_name(name: Any) -> bool:
    """Whether this is a text that files can hold: not empty, no half of a surrogate pair."""
    return isinstance(name, str) and name != "" and not any("\ud800" <= c <= "\udfff" for c in name)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _checked(data: Any) -> dict[str, Any]:
    """The fields of a Calibrator, or an InputError that names the first that is not right."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f'calibrator: not a softly calibrator ("format" must be "{FORMAT}")')
    if type(data.get("version")) is not int or data["version"] != VERSION:
        found = reprlib.repr(data.get("version"))
        raise InputError(f"calibrator: version {found} cannot be read, this softly reads {VERSION}: fit it again")

    def number(value: Any, low: float = 0.0) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low < value <= sys.float_info.max

    fitted = data.get("status") == "ok"
    interval = data.get("interval")
    names = data.get("classes")
    temperature: Any = data.get("temperature")
    error: Any = data.get("standard_error")
    checks = {
        "method": (data.get("method") in METHODS, f"one of {METHODS}"),
        "kind": (data.get("kind") in KINDS, f"one of {KINDS}"),
        "classes": (
            isinstance(names, list) and len(names) >= 2 and all(map(_is_name, names)) and len(set(names)) == len(names),
            "a list of at least two different names",
        ),
        "temperature": (
            number(temperature) and (fitted or temperature == 1),
            "a number > 0 (1 unless status is ok)",
        ),
        "status": (data.get("status") in get_args(Status), f"one of {get_args(Status)}"),
        "standard_error": (
            number(error) if fitted else data.get("standard_error", 0) is None,
            "a number > 0, null unless status is ok",
        ),
        "interval": (
            isinstance(interval, list)
            and len(interval) == 2
            and all(map(number, (*interval, temperature, error)))
            and all(map(math.isclose, interval, temperature_interval(temperature, error)))
            if fitted
            else data.get("interval", 0) is None,
            "the [low, high] that temperature and standard_error give, null unless status is ok",
        ),
        "rows": (
            isinstance(data.get("rows"), int) and not isinstance(data.get("rows"), bool) and data["rows"] > 0,
            "an integer > 0",
        ),
        "log_loss_before": (number(data.get("log_loss_before"), -1e-9), "a number >= 0"),
        "log_loss": (number(data.get("log_loss"), -1e-9), "a number >= 0"),
    }
    unknown = sorted(set(data) - set(checks) - {"format", "version"})
    if unknown:
        raise InputError(
            f"calibrator: unknown field {reprlib.repr(unknown[0])}: it was not written by softly {VERSION}"
        )
    for name, (right, wanted) in checks.items():
        if not right:
            raise InputError(f"calibrator: {name} is {reprlib.repr(data.get(name))}, wanted {wanted}: fit it again")
    fields = {name: data[name] for name in checks}
    fields["classes"] = tuple(names or ())
    fields["interval"] = tuple(interval) if interval is not None else None
    return fields
