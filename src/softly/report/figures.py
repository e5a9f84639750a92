"""Evaluations -> pictures: reliability diagrams and histograms as SVG text, and how numbers are written.

Figures hold numbers only, never names from the data. Each carries a title and a description in words;
points and bars say their numbers when the pointer rests on them (native tooltips, no script).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from softly.calibration.evaluation import Evaluation, ReliabilityBin

Series = Literal["before", "after"]

DASH = "\u2013"
LIGHT = {
    "page": "#f7f7f4",
    "card": "#ffffff",
    "ink": "#1c2329",
    "muted": "#5a656f",
    "rule": "#dfe2de",
    "before": "#b4511c",
    "after": "#0d6c80",
    "notice": "#fdf3e1",
}
DARK = {
    "page": "#121518",
    "card": "#1a1f23",
    "ink": "#e7e9ea",
    "muted": "#9ba6af",
    "rule": "#323a40",
    "before": "#f2a068",
    "after": "#63c3d6",
    "notice": "#33291a",
}
# `screen`, so that paper is always light.
DARK_MEDIA = "@media screen and (prefers-color-scheme: dark)"


def number(value: float | None) -> str:
    """A number with at least three decimals, more when small; a dash for None, NaN and infinities.

    >>> number(2.4951), number(0.00312)
    ('2.495', '0.0031')
    """
    if value is None or not isfinite(value):
        return DASH
    size = abs(value)
    if size >= 100:
        text = f"{value:,.0f}"
    elif size >= 0.00995 or value == 0:
        text = f"{value:.3f}"
    elif size >= 0.000995:
        text = f"{value:.4f}"
    else:
        text = f"{value:.5f}" if size >= 0.000005 else "0.00000"
    return text.replace("-", "\u2212")


def percent(share: float | None, digits: int = 0) -> str:
    """A share as per cent; never rounded to 0 or 100 unless it is; a dash for None, NaN and infinities.

    >>> percent(0.7614), percent(0.9996), percent(0.7614, 1)
    ('76 %', '99.96 %', '76.1 %')
    """
    if share is None or not isfinite(share):
        return DASH
    while 0 < share < 1 and digits < 6 and float(f"{100 * share:.{digits}f}") in (0, 100):
        digits += 1
    return f"{100 * share:.{digits}f} %".replace("-", "\u2212")


def _rules(palette: dict[str, str]) -> str:
    """Colours of all figures, written out: renderers without CSS variables draw them too."""
    return (
        f".fig text{{fill:{palette['muted']}}}.fig .before{{color:{palette['before']}}}"
        f".fig .after{{color:{palette['after']}}}.fig .named{{fill:currentColor}}"
        f".fig .rule{{stroke:{palette['rule']}}}.fig .ideal{{stroke:{palette['muted']}}}"
        f".fig .backdrop{{fill:{palette['card']};stroke:{palette['rule']}}}"
        f".fig .dot{{stroke:{palette['card']}}}"
    )


STYLE = (
    ".fig{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}"
    ".fig .heading{font-size:15px;font-weight:600}.fig .rule{fill:none}"
    ".fig .ideal{stroke-width:1.2;stroke-dasharray:4 4}"
    ".fig .band{fill:currentColor;fill-opacity:.15}.fig .whisker{stroke:currentColor;stroke-opacity:.6}"
    ".fig .curve{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}"
    ".fig .dot{fill:currentColor;stroke-width:1.5}.fig .bar{fill:currentColor}"
    ".fig .strip{shape-rendering:crispEdges}"
    ".fig .mark{stroke:currentColor;stroke-width:1.6}.fig .claimed{stroke-dasharray:5 3}"
    f"{_rules(LIGHT)}{DARK_MEDIA}{{{_rules(DARK)}}}"
)

_WIDTH, _LEFT, _TOP, _SIDE = 400, 50, 36, 336
_BASE = _TOP + _SIDE
_RELIABILITY_HEIGHT, _HISTOGRAM_HEIGHT = 436, 244
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _BASE - _SIDE * share


def _heading(series: Series, remark: str) -> str:
    return (
        f'<g class="{series}"><text class="heading named" x="{_LEFT}" y="22">{series.capitalize()}</text></g>'
        f'<text x="{_LEFT + _SIDE}" y="22" text-anchor="end">{remark}</text>'
    )


def _percent_axis(baseline: float, title: str) -> str:
    labels = "".join(
        f'<text x="{_x(tick):.1f}" y="{baseline}" text-anchor="middle">{100 * tick:.0f}</text>' for tick in _TICKS
    )
    return f'{labels}<text x="{_x(0.5):.1f}" y="{baseline + 20}" text-anchor="middle">{title}</text>'


def _drawn(bins: Sequence[ReliabilityBin]) -> list[ReliabilityBin]:
    return [item for item in bins if item.count and isfinite(item.confidence) and isfinite(item.accuracy)]


def _bin_words(item: ReliabilityBin) -> str:
    return (
        f"claimed {percent(item.confidence, 1)}, right {percent(item.accuracy, 1)} "
        f"(95 % interval {percent(item.accuracy_low, 1)} to {percent(item.accuracy_high, 1)}, "
        f"{item.count:,} rows)"
    )


def _strip(histogram: Sequence[int]) -> str:
    """How the rows spread over confidence, as shades under the axis: area-true would hide the thin tail."""
    peak = max(histogram, default=0)
    width = _SIDE / max(len(histogram), 1)
    return "".join(
        f'<rect class="bar strip" x="{_LEFT + width * i:.2f}" y="{_BASE + 5}" width="{width:.2f}" height="8" '
        f'fill-opacity="{sqrt(count / peak):.2f}"/>'
        for i, count in enumerate(histogram)
        if count
    )


def _reliability(evaluation: Evaluation, series: Series) -> str:
    """The marks of one diagram: grid, ideal, Wilson bands, curve, spread of the rows below."""
    bins = _drawn(evaluation.reliability)
    parts = [_heading(series, f"ECE {number(evaluation.ece.value)}")]
    parts += [
        f'<path class="rule" d="M{_LEFT} {_y(tick):.1f}h{_SIDE}M{_x(tick):.1f} {_TOP}v{_SIDE}"/>'
        f'<text x="{_LEFT - 8}" y="{_y(tick) + 4:.1f}" text-anchor="end">{100 * tick:.0f}</text>'
        for tick in _TICKS
    ]
    parts.append(
        f'<line class="ideal" x1="{_LEFT}" y1="{_BASE}" x2="{_LEFT + _SIDE}" y2="{_TOP}"/>'
        f'<text x="{_LEFT + 10}" y="{_TOP + 20}">claims too little</text>'
        f'<text x="{_LEFT + _SIDE - 10}" y="{_BASE - 12}" text-anchor="end">claims too much</text>'
        f'<text transform="translate(14 {_y(0.5):.1f}) rotate(-90)" text-anchor="middle">were right, %</text>'
        f"{_percent_axis(_BASE + 30, 'confidence claimed, %')}"
        f'<g class="{series}">{_strip(evaluation.confidence_histogram)}'
    )
    if len(bins) > 1:
        upper = [f"{_x(item.confidence):.1f},{_y(item.accuracy_high):.1f}" for item in bins]
        lower = [f"{_x(item.confidence):.1f},{_y(item.accuracy_low):.1f}" for item in reversed(bins)]
        curve = [f"{_x(item.confidence):.1f},{_y(item.accuracy):.1f}" for item in bins]
        parts.append(f'<polygon class="band" points="{" ".join(upper + lower)}"/>')
        parts.append(f'<polyline class="curve" points="{" ".join(curve)}"/>')
    for item in bins:
        x, low, high = _x(item.confidence), _y(item.accuracy_low), _y(item.accuracy_high)
        parts.append(
            f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
            f'<circle class="dot" cx="{x:.1f}" cy="{_y(item.accuracy):.1f}" r="4">'
            f"<title>{_bin_words(item)}</title></circle>"
        )
    return "".join([*parts, "</g>"])


def _reliability_words(evaluation: Evaluation) -> str:
    bins = "; ".join(_bin_words(item) for item in _drawn(evaluation.reliability))
    return f"Bins of equal mass, least confident first: {bins or 'none'}."


def _svg(name: str, size: tuple[int, int], title: str, words: str, body: str, *, alone: bool = False) -> str:
    """The frame; `alone` adds what a file of its own needs: namespace, size, style and a backdrop."""
    width, height = size
    opening = f'<svg class="fig" viewBox="0 0 {width} {height}" role="img"'
    opening += f' aria-labelledby="{name}-t {name}-d"'
    if alone:
        opening += f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        backdrop = f'<rect class="backdrop" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>'
        body = f"<style>{STYLE}</style>{backdrop}{body}"
    return f'{opening}><title id="{name}-t">{title}</title><desc id="{name}-d">{words}</desc>{body}</svg>'


def reliability_diagram(evaluation: Evaluation, series: Series) -> str:
    """How often claims were right against what they claimed, as inline SVG (needs `STYLE` in the page).

    Equal-mass bins with 95 % Wilson bands; on the dashed diagonal claims mean what they say; the shades under
    the axis show where the rows are. Empty bins are left out.
    """
    return _svg(
        f"reliability-{series}",
        (_WIDTH, _RELIABILITY_HEIGHT),
        f"Reliability diagram {series} calibration",
        _reliability_words(evaluation),
        _reliability(evaluation, series),
    )


def reliability_pair(before: Evaluation, after: Evaluation) -> str:
    """Both reliability diagrams as one SVG file with its own backdrop, light or dark as the viewer asks."""
    pad = 8
    body = (
        f'<g transform="translate({pad} {pad})">{_reliability(before, "before")}</g>'
        f'<g transform="translate({_WIDTH + pad} {pad})">{_reliability(after, "after")}</g>'
    )
    return _svg(
        "reliability",
        (2 * _WIDTH + 2 * pad, _RELIABILITY_HEIGHT + pad),
        "Reliability diagrams before and after calibration",
        f"Before: {_reliability_words(before)} After: {_reliability_words(after)}",
        body,
        alone=True,
    )


def confidence_histogram(evaluation: Evaluation, series: Series) -> str:
    """How many rows claim how much, as inline SVG; the marks of mean confidence and accuracy should meet."""
    top, base, counts = 70, 190, evaluation.confidence_histogram
    width, total, peak = _SIDE / max(len(counts), 1), max(sum(counts), 1), max(max(counts, default=0), 1)
    highest = f"{100 * peak / total:.{0 if 10 * peak >= total else 1}f}"
    parts = [
        _heading(series, f"{evaluation.rows:,} rows"),
        f'<path class="rule" d="M{_LEFT} {base}h{_SIDE}M{_LEFT} {top}h{_SIDE}"/>',
        f'<text x="{_LEFT - 8}" y="{base + 4}" text-anchor="end">0</text>',
        f'<text x="{_LEFT - 8}" y="{top + 4}" text-anchor="end">{highest}</text>',
        f'<text transform="translate(14 {(top + base) / 2}) rotate(-90)" text-anchor="middle">rows, %</text>',
        _percent_axis(base + 18, "confidence claimed, %"),
        f'<g class="{series}">',
    ]
    for i, count in enumerate(counts):
        if count:
            height = (base - top) * count / peak
            parts.append(
                f'<rect class="bar" x="{_LEFT + width * i + 0.4:.2f}" y="{base - height:.1f}" '
                f'width="{width - 0.8:.2f}" height="{height:.1f}" fill-opacity=".55">'
                f"<title>{i / len(counts):.0%} to {(i + 1) / len(counts):.0%}: {count:,} rows</title></rect>"
            )
    claimed, right, claims = evaluation.mean_confidence, evaluation.accuracy.value, evaluation.claims
    marks = (("mean confidence", "claimed", claimed, _LEFT), ("accuracy", "", right, _x(0.58)))
    for label, style, share, x in marks:
        parts.append(
            f'<line class="mark {style}" x1="{x:.1f}" x2="{x + 18:.1f}" y1="44" y2="44"/>'
            f'<text x="{x + 25:.1f}" y="48">{label} {percent(share, 1)}</text>'
        )
        if isfinite(share):
            at = f"{_x(share):.1f}"
            parts.append(f'<line class="mark {style}" x1="{at}" x2="{at}" y1="{top - 6}" y2="{base}"/>')
    words = (
        f"Mean confidence {percent(claimed, 1)}, accuracy {percent(right, 1)}; "
        f"{claims.count:,} of {evaluation.rows:,} rows claim {percent(claims.threshold)} or more."
    )
    return _svg(
        f"confidence-{series}",
        (_WIDTH, _HISTOGRAM_HEIGHT),
        f"Histogram of confidence {series} calibration",
        words,
        "".join([*parts, "</g>"]),
    )
