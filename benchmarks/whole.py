"""Whole jobs beside their rivals: fitting a temperature, attention, calibrating a file, starting the command line."""

from __future__ import annotations

import importlib.util
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import models
import numpy as np
from sampling import sampling_case
from timing import Contenders, interleaved

import softly
from softly import jobs


def fit_case() -> Contenders:
    """Temperature of 50,000 rows of ten classes, beside scikit-learn's."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """A classifier whose features are its scores."""

        def fit(self, x: Any, y: Any) -> Given:
            self.classes_ = np.arange(10)
            return self

        def decision_function(self, x: Any) -> Any:
            return x

        def predict(self, x: Any) -> Any:
            return x.argmax(axis=1)

    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50_000, 10)) * 3
    labels = np.argmax(scores / 2 + rng.gumbel(size=scores.shape), axis=1)
    model = Given().fit(scores, labels)
    rival = lambda: CalibratedClassifierCV(FrozenEstimator(model), method="temperature", ensemble=False).fit(  # noqa: E731
        scores, labels
    )
    mine = softly.fit_calibrator(scores, labels).temperature
    theirs = 1 / rival().calibrated_classifiers_[0].calibrators[0].beta_
    if abs(mine / theirs - 1) > 1e-4:
        raise SystemExit(f"the fits disagree: {mine} and {theirs}")
    return {"softly": lambda: softly.fit_calibrator(scores, labels), "scikit-learn": rival}


def file_case(directory: Path, rows: int) -> Contenders:
    """The whole of `calibrate` on a Parquet file, beside reading it and writing it again with the same codec."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, copy, out = directory / "scores.parquet", directory / "copy.parquet", directory / "out"
    names = [f"logit_{c}" for c in "abcdefghij"]
    schema = pa.schema([(name, pa.float32()) for name in names] + [("label", pa.int64())])
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(rows // 250_000):
            z = (rng.normal(size=(250_000, 10)) * 3).astype(np.float32)
            y = np.argmax(z / 2 + rng.gumbel(size=z.shape), axis=1)
            writer.write_table(pa.table([*(c.copy() for c in z.T), y], schema=schema))

    def copying() -> None:
        file = pq.ParquetFile(path)
        with pq.ParquetWriter(copy, file.schema_arrow) as writer:
            for batch in file.iter_batches(250_000):
                writer.write_batch(batch)

    return {
        "softly": lambda: jobs.calibrate_file(path, label="label", out=out, overwrite=True),
        "pyarrow copy": copying,
    }


def graph_case() -> Contenders:
    """Values and gradients of attention over a million edges with 8 heads, beside PyG's layer of the same products."""
    import torch
    from torch_geometric.nn import TransformerConv

    nodes, heads, width = 100_000, 8, 8
    torch.manual_seed(0)
    pairs = torch.randint(0, nodes, (2, 1_000_000))
    x, layer = torch.randn(nodes, 64), TransformerConv(64, width, heads=heads, root_weight=False)
    edges = softly.Edges.from_pairs(*pairs, num_targets=nodes, num_sources=nodes)

    def mine() -> torch.Tensor:
        scored = (of(x).view(nodes, heads, width) for of in (layer.lin_query, layer.lin_key, layer.lin_value))
        return softly.graph_attention(*scored, edges).reshape(nodes, heads * width)

    torch.testing.assert_close(mine(), layer(x, pairs), rtol=1e-4, atol=1e-5)
    return {"softly": lambda: mine().sum().backward(), "PyG": lambda: layer(x, pairs).sum().backward()}


def regression_case(width: int, dtype: Any) -> Contenders:
    """Kernel regression of 1000 queries on 10,000 points, beside torch's attention with a bias and two libraries."""
    import torch
    from sklearn.metrics.pairwise import rbf_kernel

    rng = np.random.default_rng(0)
    x, y, query = (rng.normal(size=shape).astype(dtype) for shape in ((10_000, width), 10_000, (1000, width)))
    tensors = [torch.from_numpy(a)[None, None] for a in (query, x, y[:, None])]

    def torch_attention() -> Any:
        bias = (tensors[1].square().sum(-1) / -2)[..., None, :].expand(1, 1, 1000, 10_000)
        return torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=bias, scale=1.0)

    def scikit_learn() -> Any:
        weights = rbf_kernel(query, x, gamma=0.5)
        return weights @ y / weights.sum(1)

    mine = lambda: softly.kernel_regression(x, y, query, 1.0)  # noqa: E731
    np.testing.assert_allclose(mine(), torch_attention()[0, 0, :, 0].numpy(), atol=1e-4)
    found: Contenders = {"softly": mine, "torch": torch_attention, "scikit-learn": scikit_learn}
    if importlib.util.find_spec("statsmodels"):
        warnings.filterwarnings("ignore", category=FutureWarning, module="pandas")  # at each of its fits
        from statsmodels.nonparametric.kernel_regression import KernelReg

        found["statsmodels"] = lambda: KernelReg(y, x, "c" * width, reg_type="lc", bw=np.ones(width)).fit(query)[0]
        np.testing.assert_allclose(mine(), found["statsmodels"](), atol=1e-4)
    return found


def attention_cases() -> list[tuple[str, Contenders]]:
    """1 x 8 x 1024 x 64, dense, causal, and sparse with four fifths of the blocks of weights zero; beside torch's."""
    import torch

    rng = np.random.default_rng(0)
    heads, length, width, block = 8, 1024, 64, 64
    query, key, value = (rng.standard_normal((1, heads, length, width), dtype=np.float32) for _ in range(3))
    tensors = [torch.from_numpy(x) for x in (query, key, value)]
    theirs = torch.nn.functional.scaled_dot_product_attention
    near_query, near_key = query.copy(), key.copy()
    for i in range(length // block):  # the queries of a block and the keys of three share a direction
        near_query[..., i * block : (i + 1) * block, i] += 30
        for j in range(i, i + 3):
            begin = j * block % length
            near_key[..., begin : begin + block, i] += 8
    return [
        (
            f"attention float32 1 x {heads} x {length} x {width}",
            {"softly": lambda: softly.attention(query, key, value), "torch": lambda: theirs(*tensors)},
        ),
        (
            "the same, causal",
            {
                "softly": lambda: softly.attention(query, key, value, causal=True),
                "torch": lambda: theirs(*tensors, is_causal=True),
            },
        ),
        (
            "the same at alpha 1.5, 82 % of the blocks of weights zero",
            {
                "softly": lambda: softly.attention(near_query, near_key, value, alpha=1.5),
                "softly, softmax": lambda: softly.attention(near_query, near_key, value),
                "softly, alpha 1.5, no block zero": lambda: softly.attention(query * 0.1, key * 0.1, value, alpha=1.5),
            },
        ),
    ]


def cpu_seconds(commands: dict[str, list[str]], rounds: int = 15) -> dict[str, float]:
    """Median CPU time of each process, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def rows_of_table(rows: int) -> list[tuple[str, dict[str, float]]]:
    """Each job, and seconds of softly first, then of its rivals."""
    found = [("temperature fit float64 50000 x 10", interleaved(fit_case(), 4.0))]
    found.append(("graph attention, value + gradients, 1M edges x 8 heads", interleaved(graph_case(), 4.0)))
    for width in (1, 8):
        for dtype in (np.float32, np.float64):
            name = f"kernel regression {dtype.__name__}, 1000 queries, 10,000 points, d = {width}"
            found.append((name, interleaved(regression_case(width, dtype), 2.0)))
    for options in ({"top_p": 0.9}, {"temperature": 1.5, "top_p": 0.99}):
        text = ", ".join(f"{name} {value}" for name, value in options.items())
        found.append((f"a draw from each of 28 x 49152 float16, {text}", interleaved(sampling_case(options), 2.0)))
    found += [(name, interleaved(contenders, 4.0)) for name, contenders in attention_cases()]
    with tempfile.TemporaryDirectory() as directory:
        name = f"calibrate a Parquet file, {rows:,} x 10 float32"
        found.append((name, interleaved(file_case(Path(directory), rows), 0.0, fewest=3)))
    found += models.rows_of_table()
    command = str(Path(sys.executable).with_name("softly"))
    cpu = cpu_seconds(
        {
            "python": [sys.executable, "-c", "pass"],
            "--version": [command, "--version"],
            "--help": [command, "--help"],
            "numpy": [sys.executable, "-c", "import numpy"],
            "softly": [sys.executable, "-c", "import numpy, softly"],
        }
    )
    found += [
        (f"`softly {option}`, CPU", {"softly": cpu[option], "bare python": cpu["python"]})
        for option in ("--version", "--help")
    ]
    found.append(("import of numpy and softly, CPU", {"softly": cpu["softly"], "numpy alone": cpu["numpy"]}))
    return found
