"""DNA sequences to counts of their k-mers, the words of k letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from softly._errors import InputError

_LONGEST = 8  # 4^8 = 65536 columns
_GAPS = np.frombuffer(b"-. \t\r\n", np.uint8)
_CODES = np.full(256, -1, np.int64)
for _i, _letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
    for _letter in _letters:
        _CODES[ord(_letter)] = _i


def kmer_profiles(sequences: Sequence[str], k: int = 4) -> Any:
    """Square roots of the shares of each k-mer, (sequences, 4^k) in CSR: rows of length 1, distances as Hellinger's.

    Windows with a letter other than A, C, G, T (or U) count for nothing; gaps (-, .) and white space are left out.
    ValueError for a k outside 1..8, and for a sequence without any window, by its number.

    >>> kmer_profiles(["ACGT", "aannaa"], k=2).toarray()[:, [0, 1, 6, 11]].round(3)
    array([[0.   , 0.577, 0.577, 0.577],
           [1.   , 0.   , 0.   , 0.   ]])
    """
    from scipy.sparse import csr_array

    if not 1 <= k <= _LONGEST:
        raise InputError(f"k={k} is not in 1..{_LONGEST}")
    columns, shares, ends = [], [], [0]
    for number, sequence in enumerate(sequences):
        letters = np.frombuffer(sequence.encode("ascii", "replace"), np.uint8)
        codes = _CODES[letters[~np.isin(letters, _GAPS)]]
        windows = max(0, len(codes) - k + 1)
        words, known = np.zeros(windows, np.int64), np.ones(windows, bool)
        for i in range(k):
            words = 4 * words + codes[i : i + windows]
            known &= codes[i : i + windows] >= 0
        found, counts = np.unique(words[known], return_counts=True)
        if not len(found):
            raise InputError(
                f"sequence {number} has no {k} letters A, C, G, T in a row: {sequence[:20]!r}; leave it out"
            )
        columns.append(found)
        shares.append(np.sqrt(counts / counts.sum()))
        ends.append(ends[-1] + len(found))
    shape = (len(ends) - 1, 4**k)
    if shape[0] == 0:
        return csr_array(shape)
    return csr_array((np.concatenate(shares), np.concatenate(columns), np.array(ends)), shape=shape)
