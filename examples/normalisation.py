"""Batch against layer normalisation on logits: what each does to probabilities, measured on a digit classifier.

Without any, the logits of a linear classifier of scikit-learn's digits are as honest as its fit. Batch normalisation of
logits ties each row to its batch: probabilities, and some predictions, move with the company. Layer normalisation gives
every row the same spread: without a gain no probability passes .757 for 10 classes, sure or not. The baseline is the
plain logits. A temperature fitted on held-out rows mends the layer's cap nearly, but no dependence on a batch.

Run: python examples/normalisation.py [--out DIRECTORY]
"""

import numpy as np
from _script import claim, figures_folder
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import softly
from softly.report.panels import Panel, svg

TRAIN, FIT = 800, 400  # rows to train on, and to fit temperatures on; the rest is judged


def batch_normalised(z):
    """Columns of mean 0 and variance 1, over the batch that is passed."""
    return (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)


def layer_normalised(z):
    """Rows of mean 0 and variance 1."""
    return (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)


def in_batches(f, z, size):
    """f on batches of so many rows."""
    return np.concatenate([f(z[i : i + size]) for i in range(0, len(z), size)])


def main() -> None:
    """Trains, normalises, checks and draws."""
    out = figures_folder(__doc__)
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order] / 16, y[order]
    model = LogisticRegression(max_iter=1000).fit(x[:TRAIN], y[:TRAIN])
    logits = model.decision_function(x[TRAIN:])
    fit, judged, labels = slice(0, FIT), slice(FIT, None), y[TRAIN:]

    variants = {
        "plain": logits,
        "batch, 256 rows": in_batches(batch_normalised, logits, 256),
        "batch, 8 rows": in_batches(batch_normalised, logits, 8),
        "layer": layer_normalised(logits),
    }
    found, temperatures = {}, {}
    for name, z in variants.items():
        temperatures[name] = softly.fit_calibrator(z[fit], labels[fit]).temperature
        for fitted, t in (("", 1.0), (", fitted", temperatures[name])):
            p = softly.softmax(z[judged], temperature=t)
            told = softly.evaluate(p, labels[judged])
            found[name + fitted] = (told.accuracy.value, told.log_loss.value, float(p.max()))
    print("logits                     accuracy  log-loss  largest probability")
    for name, (accuracy, loss, largest) in found.items():
        print(f"{name:26} {accuracy:8.4f} {loss:9.4f} {largest:10.4f}")

    batch = softly.batch_dependence(batch_normalised, logits[:64])
    layer = softly.batch_dependence(layer_normalised, logits[:64])
    claim(
        f"batch normalisation: {batch.modes[0].flipped} of 64 predictions change with half of the batch, by up to "
        f"{batch.modes[0].change:.1f}",
        batch.modes[0].status == "depends on the batch" and batch.modes[0].flipped > 0,
    )
    cap = float(layer.confidence_cap)
    claim(
        f"layer normalisation: no row depends on its batch, no probability passes {cap:.3f}, of rows that are "
        f"{found['plain'][2]:.3f} sure without",
        layer.modes[0].status == "independent" and found["layer"][2] <= cap < 0.76 < found["plain"][2],
    )
    losses = {name: loss for name, (_, loss, _) in found.items()}
    claim(
        f"log-loss: plain {losses['plain']:.3f}, layer {losses['layer']:.3f}, batches of 8 "
        f"{losses['batch, 8 rows']:.3f}: the baseline wins",
        losses["plain"] < losses["layer"] and losses["plain"] < losses["batch, 8 rows"],
    )
    claim(
        f"with fitted temperatures: plain {losses['plain, fitted']:.3f}, layer {losses['layer, fitted']:.3f}, batches "
        f"of 8 {losses['batch, 8 rows, fitted']:.3f}",
        losses["plain, fitted"] < losses["batch, 8 rows, fitted"],
    )
    (out / "normalisation.svg").write_text(figure(variants, judged, cap, losses), encoding="utf-8")


def figure(variants, judged, cap, losses):
    """Confidence of the rows, and the log-loss of each kind."""
    edges = np.linspace(0, 1, 21)
    sure = Panel("How sure the rows are", "largest probability", "share of rows", (0, 1), (0, 0.8))
    for name, colour, shift in (("plain", 1, -0.011), ("layer", 0, 0.011)):
        p = softly.softmax(variants[name][judged]).max(axis=1)
        shares = np.histogram(p, edges)[0] / len(p)
        sure.bars((edges[:-1] + edges[1:]) / 2 + shift, shares, 0.021, name, colour)
    sure.note("plain", 1, (0.94, 0.72), anchor="end")
    sure.note(f"layer: at most {cap:.3f}", 0, (0.72, 0.5), anchor="end")
    shown = ["plain", "layer", "batch, 256 rows", "batch, 8 rows"]
    highest = 1.3 * max(losses[name] for name in shown)
    loss = Panel("Log-loss", "logits", "held-out rows, nats", (-0.5, 3.5), (0, highest))
    places = np.arange(len(shown))
    loss.bars(places - 0.18, [losses[name] for name in shown], 0.34, "as they are", 0)
    loss.bars(places + 0.18, [losses[f"{name}, fitted"] for name in shown], 0.34, "with a fitted temperature", 1)
    for place, name in zip(places, shown, strict=True):
        loss.note(name, 3, (place, max(losses[name], losses[f"{name}, fitted"]) + 0.02 * highest), anchor="middle")
    loss.note("as they are", 0, (-0.35, 0.93 * highest))
    loss.note("with a fitted temperature", 1, (-0.35, 0.86 * highest))
    return svg("Batch and layer normalisation of logits", (sure, loss))


if __name__ == "__main__":
    main()
