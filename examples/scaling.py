"""Why attention divides by sqrt(d), measured, and where that is not enough.

Queries and keys with independent entries of variance 1 have dot products of variance d: without a scale the weights of
256 keys rest on one key at large d, and less gradient passes. 1/sqrt(d) keeps them alike at every d. The baseline is no
scale, which passes more gradient up to some hundred dimensions, as its weights are uneven but not yet sure. If keys
resemble their queries, as they may after training, 1/sqrt(d) does not help: there normalising both to length 1 does,
with a scale of its own.

Run: python examples/scaling.py [--out DIRECTORY]
"""

import numpy as np
from _script import claim, figures_folder

import softly
from softly.report.panels import Panel, svg

KEYS = 256
DIMENSIONS = 2 ** np.arange(13)  # 1 to 4096


def independent(d):
    """Queries and keys that know nothing of each other."""
    rng = np.random.default_rng(d)
    return rng.normal(size=(KEYS, d)), rng.normal(size=(KEYS, d))


def correlated(d):
    """Each key is its query, with noise: a cosine of .96."""
    query, noise = independent(d)
    return query, query + 0.3 * noise


def normalised(x):
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def show(name, reports):
    """A line a dimension."""
    print(f"{name}\n    d  variance/d   mean    saturated: scale 1, 1/sqrt(d)   gradient: scale 1, 1/sqrt(d)")
    for d, told in reports.items():
        before, after = told.unscaled, told.scaled
        print(
            f"{d:5}  {told.variance_over_dimension:10.3f} {told.mean:6.2f}    {before.saturated:18.2f} "
            f"{after.saturated:10.2f} {before.gradient_norm:18.1e} {after.gradient_norm:10.1e}"
        )


def figure(free, bound, cosine):
    """Saturation and gradients by dimension, with and without the scale, and of correlated keys."""
    sure = Panel("Saturated queries, independent", "d", "share of queries", (1, 4096), (0, 1), "x")
    passed = Panel("Jacobian of the weights", "d", "norm", (1, 4096), (1e-4, 1), "xy")
    alike = Panel("Saturated queries, keys like queries", "d", "share of queries", (1, 4096), (0, 1), "x")
    sure.line(DIMENSIONS, [t.unscaled.saturated for t in free.values()], "scale 1", 0, label=(70, 0.75))
    sure.line(DIMENSIONS, [t.scaled.saturated for t in free.values()], "1/sqrt(d)", 1, label=(70, 0.04))
    passed.line(DIMENSIONS, [t.unscaled.gradient_norm for t in free.values()], "scale 1", 0, label=(20, 0.5))
    passed.line(DIMENSIONS, [t.scaled.gradient_norm for t in free.values()], "1/sqrt(d)", 1, label=(1.2, 0.06))
    likeness = [max(t.scaled.gradient_norm, 1e-4) for t in bound.values()]
    passed.line(DIMENSIONS, likeness, "1/sqrt(d), keys like queries", 2, label=(1.2, 0.0004))
    alike.line(DIMENSIONS, [t.unscaled.saturated for t in bound.values()], "scale 1", 0, label=(1.5, 0.8))
    alike.line(DIMENSIONS, [t.scaled.saturated for t in bound.values()], "1/sqrt(d)", 1, label=(260, 0.6))
    alike.line(DIMENSIONS, [t.scaled.saturated for t in cosine.values()], "length 1, scale 5", 2, label=(70, 0.04))
    return svg("The scale of attention by dimension", (sure, passed, alike))


def main() -> None:
    """Measures, checks and draws."""
    out = figures_folder(__doc__)
    free = {int(d): softly.inspect_scaling(*independent(d)) for d in DIMENSIONS}
    bound = {int(d): softly.inspect_scaling(*correlated(d)) for d in DIMENSIONS}
    cosine = {int(d): softly.inspect_scaling(*map(normalised, correlated(d)), scale=5.0) for d in DIMENSIONS}
    show("independent entries", free)
    show("keys like their queries", bound)

    ratios = [told.variance_over_dimension for d, told in free.items() if d >= 16]
    claim(
        f"the variance of q.k is {min(ratios):.2f} to {max(ratios):.2f} times d, d = 16 to 4096",
        0.9 < min(ratios) < max(ratios) < 1.1,
    )
    large = free[4096]
    claim(
        f"at d = 4096 {large.unscaled.saturated:.0%} are saturated, {large.scaled.saturated:.0%} with the scale",
        large.unscaled.saturated > 0.7 and large.scaled.saturated == 0,
    )
    more = [d for d, told in free.items() if told.unscaled.gradient_norm > 1.5 * told.scaled.gradient_norm]
    claim(
        f"from d = {more[0]} to {more[-1]} no scale passes more gradient, by up to "
        f"{max(free[d].unscaled.gradient_norm / free[d].scaled.gradient_norm for d in more):.1f} times; at 4096 "
        f"{large.unscaled.gradient_norm / large.scaled.gradient_norm:.2f} of it",
        more[-1] >= 64 and large.unscaled.gradient_norm < 0.7 * large.scaled.gradient_norm,
    )
    alike = bound[1024]
    claim(
        f"keys like their queries (cosine {alike.own_correlation:.2f}): {alike.scaled.saturated:.0%} are saturated at "
        "d = 1024 with 1/sqrt(d)",
        alike.scaled.saturated == 1,
    )
    saved = cosine[1024].scaled
    claim(
        f"of length 1, at scale 5, {saved.saturated:.0%} are; the gradient is {saved.gradient_norm:.2f}, not "
        f"{alike.scaled.gradient_norm:.0e}",
        saved.saturated == 0 and saved.gradient_norm > 100 * alike.scaled.gradient_norm,
    )
    (out / "scaling.svg").write_text(figure(free, bound, cosine), encoding="utf-8")


if __name__ == "__main__":
    main()
