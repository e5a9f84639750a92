"""What the scripts of this folder share: where figures go, and facts that are checked before they are printed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def figures_folder(described: str | None) -> Path:
    """The directory that `--out` names, made if it is not there; the folder `figures` beside the scripts by default."""
    parser = argparse.ArgumentParser(description=described)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures", help="where figures are written")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    return out


def claim(text: str, holds: object) -> None:
    """Prints `claim: text`, or ends the script with the exit status 1 if it does not hold."""
    if not holds:
        sys.exit(f"does not hold: {text}")
    print(f"claim: {text}")
