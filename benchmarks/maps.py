"""Times all shapes with a number of threads, one line of JSON each. Run by run.py, in a process for each number."""

from __future__ import annotations

import json
import os
import sys


def main(threads: int, budget: float) -> None:
    """On as many cores as threads, before any library starts its own."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from rivals import contenders
    from shapes import drawn, published
    from timing import interleaved

    for shape in [*published(), *drawn()]:
        times = interleaved(contenders(shape, threads), budget)
        print(json.dumps({"title": shape.title, "bytes": shape.bytes, "times": times}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
