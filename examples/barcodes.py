"""DNA barcode to species and country of mason bees: assigned or not, and a swapped declaration flagged.

The job is that of a fish market: is this specimen what, and from where, its label says? No barcodes of fish are at
hand, so these are bees (COI-5P, Osmia). Barcodes are k-mer profiles; equal ones stay together, so that no barcode is
tested on itself; a fifth of them calibrates, a fifth tests. The baseline is the nearest barcode: the usual tool, and
not a bad one.

Run: python examples/barcodes.py [--out DIRECTORY]
"""

import csv
import gzip
from pathlib import Path

import numpy as np
from _script import claim, figures_folder

import softly
from softly.calibration.reliability import wilson
from softly.models import SoftmaxClassifier
from softly.models.kmers import kmer_profiles
from softly.report.panels import Panel, svg

DATA = Path(__file__).parent / "data" / "osmia_coi.tsv.gz"
FALSE_ALARM = 0.05


def specimens(column):
    """Profiles, labels, and which of five parts each is in, by barcode."""
    with gzip.open(DATA, "rt") as file:
        records = [record for record in csv.DictReader(file, delimiter="\t") if record[column]]
    sequences = [record["seq"] for record in records]
    unique, which = np.unique(sequences, return_inverse=True)
    part = np.random.default_rng(1).permutation(len(unique))[which] % 5
    x = kmer_profiles(sequences, 4).toarray()
    return x, np.array([record[column] for record in records]), part, len(unique)


def nearest(x, y, new):
    """The label of the nearest barcode, and how near it is (the cosine)."""
    likeness = new @ x.T
    best = likeness.argmax(axis=1)
    return y[best], likeness[np.arange(len(new)), best]


def coverage_curve(confidence, hit):
    """Share of specimens assigned, most confident first, and accuracy among them."""
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    return count / len(order), np.cumsum(hit[order]) / count


def interval(hits):
    """A share with its 95 % interval, as text, and its lower and upper ends."""
    low, high = wilson(np.array([hits.sum()]), np.array([len(hits)]))
    return f"{hits.mean():.3f} [{low[0]:.3f}, {high[0]:.3f}]", float(low[0]), float(high[0])


def study(column):
    """Fit, calibrate, assign, check; the curves of model and nearest barcode."""
    x, y, part, barcodes = specimens(column)
    fit, held, test = part < 3, part == 3, part == 4
    model = SoftmaxClassifier(l2=0.01, tol=1e-6).fit(x[fit] * 2, y[fit])
    names = model.classes_.tolist()
    place = {name: i for i, name in enumerate(names)}
    labels = np.array([place.get(name, -1) for name in y])
    scores = np.log(np.maximum(model.predict_proba(x * 2), 1e-300))
    seen = held & (labels >= 0)
    calibrator = softly.fit_calibrator(scores[seen], labels[seen])
    p = calibrator.apply(scores)
    hit = p[test].argmax(axis=1) == labels[test]
    near, likeness = nearest(x[fit], y[fit], x[test])
    print(f"{column}: {len(y)} specimens, {barcodes} barcodes, {len(names)} classes; T = {calibrator.temperature:.2f}")
    print(f"  accuracy {interval(hit)[0]}, nearest barcode {interval(near == y[test])[0]}")
    unseen = labels[test] < 0
    print(f"  {unseen.sum()} of {test.sum()} tested are of classes that no fitted barcode has")
    return {
        "model": coverage_curve(p[test].max(axis=1), hit),
        "nearest barcode": coverage_curve(likeness, near == y[test]),
        "check": check(column, p, y, names, held, test),
    }


def check(column, p, y, names, held, test):
    """Honest and swapped declarations: shares flagged, with their intervals."""
    rng = np.random.default_rng(2)
    arguments = {"held_out": p[held], "held_out_labels": y[held], "false_alarm": FALSE_ALARM, "classes": names}
    honest = softly.check_declared(p[test], y[test], **arguments)
    known = ~honest.unknown
    fitted = [name for name in names if (y[test] == name).any()]
    swapped = np.array([rng.choice([name for name in fitted if name != own]) for own in y[test]])
    found = softly.check_declared(p[test], swapped, **arguments)
    alarms, caught = interval(honest.flagged[known]), interval(found.flagged[known])
    print(f"  false alarms {alarms[0]}, swapped declarations flagged {caught[0]}")
    claim(
        f"{column}: false alarms are within {FALSE_ALARM:g} as far as {known.sum()} specimens tell",
        alarms[1] <= FALSE_ALARM,
    )
    claim(f"{column}: every class not fitted is reported as unknown, none flagged", not honest.flagged[~known].any())
    return caught


def main():
    """Species, then country; draw."""
    out = figures_folder(__doc__)
    panels = []
    for column, title in (("species_name", "Species"), ("country", "Country")):
        found = study(column)
        panel = Panel(title, "share assigned", "accuracy of these", (0, 1), (0.5, 1))
        for colour, (name, at) in enumerate((("model", (0.1, 0.7)), ("nearest barcode", (0.1, 0.65)))):
            share, accuracy = found[name]
            panel.line(share, accuracy, name, colour, label=at, dashed=colour == 1)
        panels.append(panel)
        if column == "species_name":
            claim("a swapped species is flagged nine times in ten or more", found["check"][1] > 0.9)
            share, accuracy = found["model"]
            claim("the surest half of the species are right 97 % of the time", accuracy[len(share) // 2] > 0.97)
    (out / "barcodes.svg").write_text(svg("Accuracy of assigned barcodes by share assigned", panels), encoding="utf-8")


if __name__ == "__main__":
    main()
