"""What utilities are made of: features of the alternatives, constants, and features of the chooser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._errors import InputError
from softly.models.choice_sets import ChoiceSets, column, matrix
from softly.models.losses import Floats


@dataclass(frozen=True, slots=True)
class ChoiceDesign:
    """The columns of the utilities: items' features; then, for each alternative but the base, a constant and the
    chooser's features.
    """

    features: tuple[str, ...]
    alternatives: NDArray[Any] | None  # the base first
    choosers: tuple[str, ...]
    constants: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Of the coefficients."""
        of_choosers = (*(["constant"] if self.constants else []), *self.choosers)
        others = () if self.alternatives is None else tuple(self.alternatives[1:])
        return (*self.features, *(f"{alternative}: {name}" for alternative in others for name in of_choosers))

    @classmethod
    def of(cls, x: Any, alternatives: Any, choosers: Any, base: Any, constants: bool) -> ChoiceDesign:
        """What the columns of a fit ask for."""
        kinds = None
        if alternatives is not None:
            kinds = np.unique(column(alternatives, "alternatives", len(x)))
            kinds = kinds if base is None else np.concatenate([kinds[kinds == base], kinds[kinds != base]])
            if base is not None and kinds[0] != base:
                raise InputError(f"base={base!r} is none of the alternatives {_listed(kinds)}")
        elif choosers is not None or base is not None:
            given = "choosers" if choosers is not None else "base"
            raise InputError(f"{given} given without alternatives: pass the name of each row's alternative")
        return cls(
            _names(x, "feature", np.shape(x)[-1]),
            kinds,
            () if choosers is None else _names(choosers, "chooser", np.shape(choosers)[-1]),
            constants and kinds is not None,
        )

    def matrix(self, x: Any, sets: ChoiceSets, alternatives: Any, choosers: Any) -> Floats:
        """The arranged rows, a column for each of `names`; InputError for what does not fit the columns of the fit."""
        items = matrix(x, "X")
        rows = len(items)
        if items.shape[1] != len(self.features):
            raise InputError(f"X has {items.shape[1]} columns: pass the {len(self.features)} that were fitted")
        if (self.alternatives is None) != (alternatives is None) or bool(self.choosers) != (choosers is not None):
            raise InputError("alternatives and choosers: pass both or none, as in the fit")
        items = sets.arrange(items)
        if self.alternatives is None or len(self.names) == len(self.features):
            return items
        which = sets.arrange(self._which(alternatives, sets, rows))
        own = np.ones((rows, int(self.constants)))
        if choosers is not None:
            values = matrix(choosers, "choosers", rows)
            if values.shape[1] != len(self.choosers):
                raise InputError(f"choosers has {values.shape[1]} columns: pass the {len(self.choosers)} of the fit")
            own = np.hstack([own, np.repeat(sets.of_each(values, "choosers"), sets.sizes, axis=0)])
        others = which[:, None] == np.arange(1, len(self.alternatives))
        return np.hstack([items, (others[:, :, None] * own[:, None, :]).reshape(rows, -1)])

    def _which(self, alternatives: Any, sets: ChoiceSets, rows: int) -> NDArray[np.int64]:
        """The place of each row's alternative; each stands in a set at most once."""
        assert self.alternatives is not None
        given = column(alternatives, "alternatives", rows)
        order = np.argsort(self.alternatives)
        places = np.searchsorted(self.alternatives, given, sorter=order).clip(max=len(order) - 1)
        which = order[places]
        unseen = self.alternatives[which] != given
        if unseen.any():
            raise InputError(
                f"alternatives, row {int(np.argmax(unseen))}: {given[np.argmax(unseen)]} was not in the fit, which had "
                f"{_listed(self.alternatives)}; leave its sets out, or fit again with it"
            )
        pairs = np.repeat(np.arange(len(sets.ids)), sets.sizes) * len(order) + sets.arrange(which)
        ordered = np.sort(pairs)
        twice = ordered[1:] == ordered[:-1]
        if twice.any():
            i, kind = divmod(int(ordered[np.argmax(twice)]), len(order))
            raise InputError(f"alternatives: set {sets.ids[i]} has {self.alternatives[kind]} twice; leave one out")
        return np.asarray(which)


def _names(values: Any, kind: str, count: int) -> tuple[str, ...]:
    given = getattr(values, "columns", None)
    return tuple(f"{kind} {i}" for i in range(count)) if given is None else tuple(map(str, given))


def _listed(names: NDArray[Any]) -> str:
    shown = ", ".join(map(str, names[:8]))
    return shown + (", ..." if len(names) > 8 else "")
