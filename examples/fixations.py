"""Where eyes look over time: a fitted task vector q(t) on objects' features, by which softmax attends.

Four kinds of objects are on a screen: those that share the target's colour or not, and its kind or not. Each is a key
k = (colour, kind, both); the task is a query q(t), and an object is fixated with the probability softmax(k q(t)). Its
entries are cubics of time, fitted as a conditional logit. The baselines: a constant q; q(t) without the conjunction of
both features; and the shares of the four kinds in bins of time, which need no features at all.

Run: python examples/fixations.py [--out DIRECTORY]
"""

import gzip
from pathlib import Path

import numpy as np
from _script import claim, figures_folder

import softly
from softly.models import ConditionalLogit
from softly.report.panels import Panel, svg

DATA = Path(__file__).parent / "data" / "eyetrack.csv.gz"
KEYS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1.0]])  # colour, kind, both
NAMES = ("neither", "colour", "kind", "both")
DEGREE, BINS, FOLDS = 3, 23, 6


def fixations():
    """Time, session, kind of object 0..3 and count of each row."""
    with gzip.open(DATA, "rt") as file:
        file.readline()
        time, colour, kind, session, count = np.loadtxt(file, delimiter=",", unpack=True)
    return time, session.astype(int), (colour + 2 * kind).astype(int), count


def basis(time, degree):
    """Powers of time on [-1, 1] (times, degree + 1)."""
    return np.polynomial.legendre.legvander(time / 750 - 0.37, degree)


def long_table(time, degree, keys=KEYS):
    """Features of the four objects at each time, times powers of time (times * 4, features (degree + 1))."""
    return np.einsum("jf,td->tjfd", keys, basis(time, degree)).reshape(len(time) * 4, -1)


def fit(time, seen, count, degree, keys=KEYS):
    """The conditional logit of fixations."""
    sets = np.repeat(np.arange(len(time)), 4)
    chosen = (np.arange(4) == seen[:, None]).ravel()
    return ConditionalLogit().fit(long_table(time, degree, keys), chosen, sets=sets, sample_weight=np.repeat(count, 4))


def queries(model, time, degree):
    """q(t), (times, features)."""
    return basis(time, degree) @ model.coef_.reshape(-1, degree + 1).T


def log_shares(time, seen, count, at):
    """Log-shares of the four kinds in bins of time, each with one fixation more, at other times (times, 4)."""
    edges = np.linspace(-900, 1450, BINS + 1)[1:-1]
    totals = np.ones((BINS, 4))
    np.add.at(totals, (np.digitize(time, edges), seen), count)
    return np.log(totals / totals.sum(axis=1, keepdims=True))[np.digitize(at, edges)]


def held_out(time, session, seen, count):
    """Mean log-likelihood of a fixation in sessions that were not fitted."""
    models = {"constant q": (0, KEYS), "q(t) without both": (DEGREE, KEYS[:, :2]), "q(t)": (DEGREE, KEYS)}
    total = dict.fromkeys((*models, "shares in bins"), 0.0)
    for fold in range(FOLDS):
        out = session % FOLDS == fold
        given = time[~out], seen[~out], count[~out]
        rows = np.arange(out.sum()), seen[out]
        for name, (degree, keys) in models.items():
            q = queries(fit(*given, degree, keys), time[out], degree)
            total[name] += count[out] @ softly.log_softmax(q @ keys.T)[rows]
        total["shares in bins"] += count[out] @ log_shares(*given, time[out])[rows]
    return {name: float(x / count.sum()) for name, x in total.items()}


def figure(grid, q, p, observed):
    """q(t), and the probabilities with the shares that were seen."""
    left = Panel("The task vector q(t)", "time, ms", "weight of a feature", (-900, 1450), (-4, 6))
    left.line(grid, q[:, 0], "colour", 0, label=(300, -1.6))
    left.line(grid, q[:, 1], "kind", 1, label=(300, -3.6))
    left.line(grid, q[:, 2], "both", 0, label=(300, 4.2), dashed=True)
    right = Panel("Fixations: model and seen", "time, ms", "probability", (-900, 1450), (0, 1))
    for kind, place in zip(range(4), ((-500, 0.95), (-300, 0.28), (1000, 0.09), (900, 0.75)), strict=True):
        right.line(grid, p[:, kind], NAMES[kind], kind % 2, label=place, dashed=kind in (1, 2))
        right.points(grid, observed[:, kind], f"seen: {NAMES[kind]}", kind % 2)
    return svg("Eye fixations over time as attention", [left, right])


def main():
    """Fit, compare, draw."""
    out = figures_folder(__doc__)
    time, session, seen, count = fixations()
    model = fit(time, seen, count, DEGREE)
    grid = np.linspace(-840, 1400, 57)
    q = queries(model, grid, DEGREE)
    p = model.predict_proba(long_table(grid, DEGREE), sets=np.repeat(np.arange(len(grid)), 4)).reshape(-1, 4)
    weights = softly.attention_weights(q, KEYS, scale=1.0)
    print(f"{count.sum():.0f} fixations in {len(np.unique(session))} sessions; q(t) = (colour, kind, both):")
    for at in (-600, 0, 600, 1200):
        i = int(np.abs(grid - at).argmin())
        print(f"  {grid[i]:6.0f} ms  q = {q[i].round(2)}  p = {p[i].round(3)}")
    claim(
        "the model's probabilities are attention_weights of q(t) over the objects' features at scale 1",
        np.allclose(p, weights, rtol=1e-12, atol=1e-15),
    )
    late = (grid > 500) & (grid < 1200)
    claim("late, most fixations are on the object that has both", (p[late].argmax(axis=1) == 3).all())
    likelihoods = held_out(time, session, seen, count)
    print("held-out log-likelihood of a fixation:", {name: round(x, 4) for name, x in likelihoods.items()})
    claim("q(t) explains sessions not fitted better than a constant q", likelihoods["q(t)"] > likelihoods["constant q"])
    claim("and better than without the conjunction", likelihoods["q(t)"] > likelihoods["q(t) without both"])
    gap = likelihoods["shares in bins"] - likelihoods["q(t)"]
    claim(f"the shares in bins, of 3 numbers a bin, are {gap:+.4f} nats from q(t), within 0.02", abs(gap) < 0.02)
    observed = np.exp(log_shares(time, seen, count, grid))
    (out / "fixations.svg").write_text(figure(grid, q, p, observed), encoding="utf-8")


if __name__ == "__main__":
    main()
