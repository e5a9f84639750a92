"""Tables and arrays of scores, in and out: streamed in batches, written whole or not at all.

>>> source = open_scores("scores.parquet", label="label")
>>> with TableWriter(Path("calibrated.parquet"), source, overwrite=False) as writer:
...     for batch in source.batches(with_table=True):
...         writer.write(batch, calibrator.apply(batch.scores))
"""

from softly._errors import InputError

try:
    from softly.files.opening import open_scores
    from softly.files.sources import Batch, ScoreSource
    from softly.files.writing import TableWriter, atomic_write, check_output, replacing
except ModuleNotFoundError as error:
    if error.name != "pyarrow":
        raise
    raise InputError("reading and writing files needs pyarrow: run pip install softly[cli]") from error

__all__ = ["Batch", "ScoreSource", "TableWriter", "atomic_write", "check_output", "open_scores", "replacing"]
