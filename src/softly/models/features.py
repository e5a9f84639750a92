"""Rows of a table to numbers: its numeric columns, or the k-mers of a column of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as types

from softly.files.problems import listed, problem, quoted
from softly.files.rows import RowTable
from softly.models.kmers import kmer_profiles

NO_ROWS = "no rows; give a table with rows"


@dataclass(frozen=True, slots=True)
class Features:
    """Which columns, and what is made of them. kmer: letters of a word, 0 where columns are numbers."""

    columns: tuple[str, ...]
    kmer: int

    @classmethod
    def choose(cls, table: RowTable, label: str, sequence: str | None, pattern: str | None, kmer: int) -> Features:
        """The sequences of FASTA or of a column that is named; else numeric columns, those of a pattern or all."""
        sequence = "sequence" if table.is_fasta and sequence is None else sequence
        if sequence is not None:
            table.require(sequence)
            return cls((sequence,), kmer)
        others = [name for name in table.names if name != label]
        if pattern is not None:
            chosen = [name for name in others if fnmatchcase(name, pattern)]
        else:
            first = next(table.batches(), None)
            if first is None:
                raise problem(table.path, NO_ROWS)
            chosen = [name for name in others if _is_number(first.schema.field(name).type)]
        if not chosen:
            what = f"no column matches {quoted(pattern)}" if pattern is not None else "no column of numbers"
            raise problem(table.path, f"{what}; name features or a sequence; columns: {listed(table.names)}")
        return cls(tuple(chosen), 0)

    def of(self, table: RowTable, batch: Any, start: int) -> Any:
        """(rows, features) of a batch that begins at row `start`, of k-mers in CSR; InputError names the row."""
        if self.kmer:
            sequences = text_column(table, batch, self.columns[0], start)
            try:
                return kmer_profiles(sequences, self.kmer)
            except ValueError as error:
                number = next(i for i, sequence in enumerate(sequences) if not _has_words(sequence, self.kmer))
                raise problem(f"{table.path}, row {start + number}", str(error).partition(" ")[2]) from None
        return np.column_stack([self._numbers(table, batch, name, start) for name in self.columns])

    @staticmethod
    def _numbers(table: RowTable, batch: Any, name: str, start: int) -> Any:
        column = batch.column(name)
        if not _is_number(column.type):
            raise problem(table.path, f"column {quoted(name)} holds {column.type}, features must be numbers")
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        bad = ~np.isfinite(values)
        if bad.any():
            row = start + int(bad.argmax())
            what = f"{quoted(name)} is missing or not finite; fill it, or leave the row out"
            raise problem(f"{table.path}, row {row}", what)
        return values


def text_column(table: RowTable, batch: Any, name: str, start: int) -> list[str]:
    """A column as texts, none missing."""
    texts: list[Any] = batch.column(name).cast(pa.string()).to_pylist()
    if not all(texts):
        row = start + next(i for i, text in enumerate(texts) if not text)
        raise problem(f"{table.path}, row {row}", f"{quoted(name)} is missing; fill it, or leave the row out")
    return texts


def _has_words(sequence: str, k: int) -> bool:
    try:
        kmer_profiles([sequence], k)
    except ValueError:
        return False
    return True


def _is_number(kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))
