"""An Assigner as one NPZ file, its numbers as arrays and the rest as JSON: no pickle, whole or not at all."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from softly._errors import InputError
from softly.files import replacing
from softly.models.assigner import Assigner
from softly.models.features import Features

FORMAT, VERSION = "softly-assigner", 1
_ARRAYS = ("center", "scale", "coef", "intercept", "honest")
_REMEDY = "give a file that `softly fit` wrote"


def write_assigner(path: Path, assigner: Assigner, *, overwrite: bool) -> None:
    """Write the file; InputError where it exists and not `overwrite`, or cannot be written."""
    about = {
        "format": FORMAT,
        "version": VERSION,
        "classes": assigner.classes,
        "columns": assigner.features.columns,
        "kmer": assigner.features.kmer,
        "temperature": assigner.temperature,
        "threshold": assigner.threshold,
    }
    arrays = {name: getattr(assigner, name) for name in _ARRAYS}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:  # numpy's savez takes no text
        archive.writestr(zipfile.ZipInfo("model.json"), json.dumps(about, indent=2, ensure_ascii=False))
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    with replacing(path, overwrite=overwrite) as file:
        file.write(data.getvalue())


def read_assigner(path: Path) -> Assigner:
    """The Assigner in a file; InputError names the file and what is wrong with it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, or not a regular one; {_REMEDY}")
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("model.json"))
            arrays = {name: np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False) for name in _ARRAYS}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {_REMEDY}") from error
    except Exception as error:  # given damaged bytes, parsers raise nearly anything
        raise InputError(f"{path}: not a model of softly, or damaged; {_REMEDY}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("version") != VERSION:
        raise InputError(f"{path}: not a softly model of version {VERSION}; {_REMEDY}")
    assigner = _assigner(about, arrays)
    if assigner is None:
        raise InputError(f"{path}: its parts do not fit each other; {_REMEDY}")
    return assigner


def _assigner(about: dict[str, Any], arrays: dict[str, Any]) -> Assigner | None:
    names, columns, kmer = about.get("classes"), about.get("columns"), about.get("kmer")
    texts = all(isinstance(x, list) and x and all(isinstance(one, str) for one in x) for x in (names, columns))
    numbers = [about.get(name) for name in ("temperature", "threshold")]
    if not texts or type(kmer) is not int or not all(isinstance(x, float) and x > 0 for x in numbers):
        return None
    assert isinstance(names, list)
    assert isinstance(columns, list)
    width = 4**kmer if 0 < kmer <= 8 else len(columns)
    shapes = {"center": (width,), "scale": (width,), "coef": (len(names), width), "intercept": (len(names),)}
    fits = all(arrays[name].shape == shape for name, shape in shapes.items()) and arrays["honest"].ndim == 1
    if not fits or not all(x.dtype == np.float64 and np.isfinite(x).all() for x in arrays.values()):
        return None
    return Assigner(
        classes=tuple(names),
        features=Features(tuple(columns), kmer),
        temperature=float(numbers[0] or 0),
        threshold=float(numbers[1] or 0),
        **arrays,
    )
