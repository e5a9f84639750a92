"""FASTA: records of a header line, `>id description`, and lines of letters."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softly.files.problems import problem, quoted, reading

SUFFIXES = (".fasta", ".fa", ".fna", ".fasta.gz", ".fa.gz", ".fna.gz")
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*-.")


def records(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line of the header, header without `>`, sequence); InputError names the line that is no FASTA."""
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with reading(path, "FASTA"), opener(path, "rb") as file:
        header, start, parts = "", 0, list[str]()
        for number, raw in enumerate(file, 1):
            line = raw.strip()
            if line.startswith(b">"):
                if start:
                    yield _record(path, header, start, parts)
                header, start, parts = line[1:].decode("utf-8", "replace").strip(), number, []
            elif line and not start:
                what = f"a FASTA file begins with a line >name, here is {quoted(line.decode('utf-8', 'replace'))}"
                raise problem(f"{path}, line {number}", f"{what}; give the right file")
            elif bad := set(line) - _LETTERS:
                what = f"{quoted(chr(min(bad)))} is no letter of a sequence; mend the line"
                raise problem(f"{path}, line {number}", what)
            else:
                parts.append(line.decode("ascii"))
        if not start:
            raise problem(path, "no records; a FASTA file has lines >name, each followed by a sequence")
        yield _record(path, header, start, parts)


def _record(path: Path, header: str, start: int, parts: list[str]) -> tuple[int, str, str]:
    sequence = "".join(parts)
    if not header:
        raise problem(f"{path}, line {start}", "a record without a name; write one after the >")
    if not sequence:
        raise problem(f"{path}, line {start}", f"{quoted(header)} has no sequence; add it, or remove the record")
    return start, header, sequence
