"""Which columns of a table are the scores, which is the label, and what the classes are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from softly._errors import InputError
from softly.files.problems import listed, problem, quoted
from softly.files.sources import Request, class_names

_PATTERNS = ("logit_*", "score_*", "z_*")
_LISTS = ("scores", "logits")
_REMEDY = "choose with --scores, a pattern such as 'logit_*' or the name of one column"


class Columns(NamedTuple):
    """The chosen columns: `scores` in the order of `classes`; `classes` is None where rows must tell.

    One column alone is a list of scores a row, or, where it is not a list, the binary pair [0, s].
    """

    scores: tuple[str, ...]
    label: str | None
    classes: tuple[str, ...] | None


def choose_columns(
    where: object,
    names: Sequence[str],
    request: Request,
    *,
    numeric: frozenset[str],
    lists: frozenset[str] = frozenset(),
) -> Columns:
    """Choose among the columns `names`, of which `numeric` hold numbers and `lists` lists of numbers.

    Without `request.scores`: the first of `logit_*`, `score_*`, `z_*` that matches two columns or more; else
    the list column `scores` or `logits`; else the columns named as the given classes; else every column but
    the label, if all are numeric. Given classes that are the columns' own names, in another order, put the
    columns in that order.
    """
    _check_distinct(where, names)
    label = _label(where, names, request)
    others = [name for name in names if name != label]
    if request.scores is not None:
        chosen, found = _asked_for(where, others, request.scores, label, lists)
    else:
        chosen, found = _default(where, others, request.classes, numeric, lists)
    if len(chosen) == 1 and chosen[0] in lists:
        return Columns(tuple(chosen), label, None)
    if request.classes is not None and sorted(request.classes) == sorted(found):
        chosen = [chosen[found.index(name)] for name in request.classes]
    return Columns(tuple(chosen), label, class_names(where, found, request.classes))


def _label(where: object, names: Sequence[str], request: Request) -> str | None:
    if request.label is None:
        if request.labels_required:
            raise problem(where, f"which column is the label? give it with --label; columns: {listed(names)}")
    elif request.label not in names:
        raise problem(where, f"no column {quoted(request.label)} for --label; columns: {listed(names)}")
    return request.label


def _asked_for(
    where: object, names: list[str], scores: str, label: str | None, lists: frozenset[str]
) -> tuple[list[str], list[str]]:
    if scores in names:
        return [scores], ["0", "1"]
    if scores == label:
        raise problem(where, f"column {quoted(scores)} is the label and cannot be the scores; {_REMEDY}")
    matching = [name for name in names if fnmatchcase(name, scores)]
    if not matching:
        raise problem(where, f"no column matches --scores {quoted(scores)}; columns: {listed(names)}")
    if len(matching) == 1 and matching[0] not in lists:
        what = f"fewer than two classes of scores: {quoted(scores)} matches only {quoted(matching[0])}"
        raise problem(where, f"{what}; ask for a binary score by its full name; columns: {listed(names)}")
    return matching, [_stripped(name, scores) for name in matching]


def _default(
    where: object,
    names: list[str],
    classes: tuple[str, ...] | None,
    numeric: frozenset[str],
    lists: frozenset[str],
) -> tuple[list[str], list[str]]:
    for pattern in _PATTERNS:
        matching = [name for name in names if fnmatchcase(name, pattern) and name not in lists]
        if len(matching) > 1:
            return matching, [_stripped(name, pattern) for name in matching]
    for name in _LISTS:
        if name in names and name in lists:
            return [name], []
    if classes is not None and set(classes) <= set(names):
        return list(classes), list(classes)
    others = [name for name in names if name not in numeric]
    if others or not names:
        raise _undecided(where, names, others)
    return names, (names if len(names) > 1 else ["0", "1"])


def _undecided(where: object, names: list[str], others: list[str]) -> InputError:
    if not names:
        return problem(where, "fewer than two classes of scores: there is no column but the label")
    what = f"which columns are scores? no two match {listed(_PATTERNS)}; {quoted(others[0])} is not numeric"
    return problem(where, f"{what}; {_REMEDY}; columns: {listed(names)}")


def _stripped(name: str, pattern: str) -> str:
    """Return a column's class: its name without what the pattern has before and after its wildcards."""
    before, *_, after = re.split(r"\[.[^]]*\]|[*?]", pattern)
    return name[len(before) : len(name) - len(after)]


def _check_distinct(where: object, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise problem(where, f"two columns are called {quoted(name)}; give every column its own name")
        seen.add(name)
