"""Are the places of a protein exclusive? Softmax or sigmoids, asked on two data sets, with the evidence.

Scores are a SigmoidClassifier's, on the folds that it was not fitted on; softmax_or_sigmoids then asks the labels.
SCL2205: places of proteins, from their amino acids, first of all proteins, then of those with one place; MULAN yeast:
14 functional classes of genes. The baseline for the scores is each label's frequency: amino acids alone say little
about the place, and the example says how little.

Run: python examples/localisation.py [--out DIRECTORY]
"""

import csv
import gzip
from pathlib import Path

import numpy as np
from _script import claim, figures_folder

import softly
from softly.models import SigmoidClassifier
from softly.report.panels import Panel, svg

DATA = Path(__file__).parent / "data"
CLASSES = (
    "Cytoplasm", "Plastid", "Secreted", "Mitochondrion", "Membrane", "Peroxisome", "Nucleus", "Cell projection", "ER",
    "Cytoplasm;Nucleus", "Centrosome;Cytoplasm;Cytoskeleton;Microtubule organizing center", "Cytoplasm;Membrane",
    "Cytoplasm;Cytoskeleton",
)  # fmt: skip
PLACES = tuple(sorted({place for name in CLASSES for place in name.split(";")}))
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
FOLDS = 4


def proteins():
    """Features (proteins, 61): shares of amino acids in the whole, in its first and last 40; places (proteins, 12)."""
    with gzip.open(DATA / "scl2205_slice.csv.gz", "rt") as file:
        records = list(csv.DictReader(file))
    x, y = [], []
    for record in records:
        sequence = record["seq"]
        parts = (sequence, sequence[:40], sequence[-40:])
        x.append([part.count(letter) / len(part) for part in parts for letter in LETTERS] + [np.log(len(sequence))])
        here = CLASSES[int(record["scl"])].split(";")
        y.append([place in here for place in PLACES])
    return np.array(x), np.array(y)


def yeast():
    """Features (genes, 103) and labels (genes, 14)."""
    with np.load(DATA / "mulan_yeast.npz") as data:
        return data["features"].astype(float), data["labels"].astype(bool)


def held_out_scores(x, y):
    """Scores of each row by the model of the other folds; x is standardised."""
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    scores = np.empty(y.shape)
    for out in range(FOLDS):
        model = SigmoidClassifier(l2=10.0, tol=1e-6).fit(x[fold != out], y[fold != out].astype(int))
        scores[fold == out] = model.decision_function(x[fold == out])
    return scores


def against_frequency(scores, y):
    """Log-loss of a row over all labels: of the model, and of each label's frequency."""
    p = np.clip(y.mean(axis=0), 1e-9, 1 - 1e-9)
    frequency = -(y * np.log(p) + (1 - y) * np.log1p(-p)).sum(axis=1).mean()
    return float(softly.binary_cross_entropy(scores, y, reduction="none").sum(axis=1).mean()), float(frequency)


def main():
    """Ask three times, tell, draw."""
    out = figures_folder(__doc__)
    x, y = proteins()
    genes, functions = yeast()
    scores = held_out_scores(x, y)
    one = y.sum(axis=1) == 1
    common = y[one].sum(axis=0) >= 20
    single = y[one][:, common]
    asked = {
        "proteins": (scores, y),
        "one place": (scores[one][:, common][single.any(axis=1)], single[single.any(axis=1)]),
        "yeast genes": (held_out_scores(genes, functions), functions),
    }
    panels, found = [], {}
    for name, (z, labels) in asked.items():
        told = found[name] = softly.softmax_or_sigmoids(z, labels)
        loss, frequency = against_frequency(z, labels)
        print(f"{name}: {told.rows} rows, {told.labels} labels: {told.fits}. {told.verdict}")
        print(f"  log-loss {loss:.3f}, of the labels' frequencies {frequency:.3f}")
        print(f"  rows with one label: {told.exactly_one_observed:.3f}, if independent {told.exactly_one:.3f}")
        excess = told.excess_variance
        print(
            f"  variance of labels in a row beyond independence: {excess.value:.3f}, "
            f"from {excess.low:.3f} to {excess.high:.3f}"
        )
        claim(f"{name}: the model says more than the labels' frequencies", loss < frequency)
        most = min(8, labels.shape[1])
        panel = Panel(f"{name}: {told.fits}", "labels in a row", "share of rows", (-0.5, most + 0.5), (0, 1))
        panel.bars(
            range(most + 1), np.bincount(labels.sum(axis=1), minlength=most + 1)[: most + 1] / len(z), 0.7, name, 0
        )
        panels.append(panel)
    proteins_told, single_told, yeast_told = found.values()
    claim(
        "proteins: some have several places, so softmax over places is refused",
        proteins_told.refused is not None and proteins_told.fits in ("overlapping", "correlated"),
    )
    claim(
        f"proteins of one place: exclusive, softmax ahead by {single_told.advantage.value:.2f} nats a row",
        single_told.fits == "exclusive" and single_told.advantage.low > 0,
    )
    claim("yeast: labels overlap, and not independently", yeast_told.fits == "correlated")
    (out / "localisation.svg").write_text(
        svg("How many labels rows have, and which model fits", panels), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
