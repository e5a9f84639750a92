"""The report: a verdict for each thing that can happen, a page that is whole and safe, true figures."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from softly.calibration import Calibrator, evaluate, fit_calibrator
from softly.calibration.evaluation import Claims, Estimate, Evaluation
from softly.calibration.temperature import temperature_interval
from softly.report import CalibrationReport, reliability_pair
from softly.report.figures import confidence_histogram, number, percent, reliability_diagram
from softly.report.summary import clearly_lower, shorten

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = "<script>alert(1)</script>"


def near(value: float, width: float = 0.004) -> Estimate:
    return Estimate(value=value, low=value - width, high=value + width)


def softmax(z: Any, temperature: float = 1.0) -> Any:
    e = np.exp((z - z.max(axis=1, keepdims=True)) / temperature)
    return e / e.sum(axis=1, keepdims=True)


def drawn(k: int, rows: int = 600) -> tuple[Any, Any]:
    """Scores, and labels drawn from their softmax."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(rows, k)) * 3
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def evaluation(
    *,
    log_loss: float = 0.9,
    ece: float = 0.05,
    claims: tuple[int, float, float] = (5000, 0.97, 0.96),
    k: int = 3,
) -> Evaluation:
    """An evaluation with chosen figures; the rest is real."""
    z, labels = drawn(k)
    count, claimed, correct = claims
    return replace(
        evaluate(softmax(z), labels, classes=[f"class {j}" for j in range(k)], resamples=20),
        rows=10_000,
        accuracy=near(0.7),
        log_loss=near(log_loss),
        ece=near(ece),
        ece_by_chance=0.011,
        ece_by_chance_high=0.015,
        claims=Claims(threshold=0.9, count=count, claimed=claimed, correct=correct),
    )


def report(before: Evaluation, after: Evaluation, **changes: Any) -> CalibrationReport:
    """A report on a calibrator at T = 2 with these `changes` to it."""
    z, labels = drawn(3)
    classes = tuple(row.name for row in before.per_class)
    calibrator = replace(fit_calibrator(z, labels), classes=classes, temperature=2.0)
    calibrator = replace(calibrator, standard_error=0.05, interval=temperature_interval(2.0, 0.05))
    return CalibrationReport(
        source="scores.parquet",
        rows=before.rows,
        classes=classes,
        kind="logits",
        folds=5,
        seed=0,
        calibrator=replace(calibrator, **changes),
        before=before,
        after=after,
        created="2026-01-31",
        version="0.1.0",
    )


BAD = evaluation(log_loss=2.495, ece=0.254, claims=(8000, 0.98, 0.758))
GOOD = evaluation(log_loss=0.92, ece=0.035, claims=(2600, 0.93, 0.912))


def test_verdict_better() -> None:
    made = report(BAD, GOOD)
    assert made.outcome == "better"
    assert made.verdict() == (
        "Claims of 90 % and more were right 76 % of the time; now 91 %, and the gain is real: "
        "log-loss fell from 2.495 to 0.920, beyond sampling noise."
    )
    assert made.warnings() == ()
    assert "here it is 0.035, so some miscalibration is left" in " ".join(made.evidence())


def test_verdict_names_few_claims() -> None:
    made = report(BAD, replace(GOOD, claims=Claims(threshold=0.9, count=22, claimed=0.95, correct=1.0)))
    assert "right 76 % of the time; now 100 % (of only 22), and" in made.verdict()


def test_verdict_when_no_high_claim_is_left() -> None:
    none = Claims(threshold=0.9, count=0, claimed=math.nan, correct=math.nan)
    made = report(BAD, replace(GOOD, claims=none))
    assert made.outcome == "better"
    assert "right 76 % of the time; no claim of 90 % is made any more, and the gain is real" in made.verdict()


def test_verdict_when_high_claims_were_not_the_trouble() -> None:
    timid = evaluation(log_loss=1.2, ece=0.2, claims=(50, 0.92, 1.0))
    assert report(timid, GOOD).verdict() == (
        "The gain is real: log-loss fell from 1.200 to 0.920, beyond sampling noise."
    )
    silent = evaluation(log_loss=0.92, ece=0.2, claims=(0, math.nan, math.nan))
    assert report(silent, GOOD).verdict() == ("The gain is real: ECE fell from 0.200 to 0.035, beyond sampling noise.")


def test_verdict_shows_a_digit_more_when_claims_would_look_the_same() -> None:
    before = evaluation(log_loss=2, ece=0.2, claims=(5000, 0.98, 0.9112))
    assert "were right 91.1 % of the time; now 91.2 %" in report(before, GOOD).verdict()


def test_verdict_mixed() -> None:
    made = report(evaluation(log_loss=2.49, ece=0.042), evaluation(log_loss=0.59, ece=0.116))
    assert made.outcome == "mixed"
    assert made.verdict() == (
        "The temperature made calibration worse: ECE rose from 0.042 to 0.116, although log-loss fell "
        "from 2.490 to 0.590; one temperature is not enough for these scores."
    )
    assert any("Do not deploy" in warning for warning in made.warnings())


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (evaluation(log_loss=0.9, ece=0.2), "it worse: ECE rose from 0.050 to 0.200; use the scores as they"),
        (evaluation(log_loss=1.9, ece=0.05), "it worse: log-loss rose from 0.900 to 1.900; use the scores"),
        (evaluation(log_loss=1.9, ece=0.2), "from 0.050 to 0.200 and log-loss rose from 0.900 to 1.900; use"),
    ],
)
def test_verdict_worse(after: Evaluation, words: str) -> None:
    made = report(evaluation(log_loss=0.9, ece=0.05), after)
    assert made.outcome == "worse"
    assert words in made.verdict()
    assert any("Do not deploy" in warning for warning in made.warnings())


def test_verdict_already_calibrated() -> None:
    made = report(evaluation(ece=0.012, log_loss=0.9), evaluation(ece=0.011, log_loss=0.899))
    assert made.outcome == "unneeded"
    assert made.verdict() == (
        "Nothing to mend: as far as 10,000 rows can tell, claims came true already "
        "(ECE 0.012, by chance up to 0.015), and log-loss went from 0.900 to 0.899, within noise."
    )
    assert "so nothing measurable is left" in " ".join(made.evidence())


def test_verdict_unclear() -> None:
    made = report(evaluation(ece=0.05, log_loss=0.9), evaluation(ece=0.049, log_loss=0.899))
    assert made.outcome == "unclear"
    assert made.verdict() == (
        "No clear change: log-loss went from 0.900 to 0.899 and ECE from 0.050 to 0.049, both within "
        "sampling noise at 10,000 rows."
    )


@pytest.mark.parametrize("status", ["separable", "anti_correlated", "constant"])
def test_verdict_degenerate(status: str) -> None:
    made = report(BAD, BAD, status=status, temperature=1.0, interval=None, standard_error=None)
    assert made.outcome == "degenerate"
    assert made.verdict().startswith("No temperature was fitted, because ")
    assert made.verdict().endswith("; T = 1 leaves probabilities as they were.")
    assert "T = 1 is kept" in made.warnings()[0]
    assert status.replace("_", " ") in made.to_html()


def test_infinite_log_loss_is_said_in_words() -> None:
    infinite = replace(BAD, log_loss=Estimate(value=math.inf, low=math.inf, high=math.inf))
    made = report(infinite, GOOD)
    assert "log-loss fell from infinity to 0.920" in made.verdict()
    assert "Before calibration log-loss is infinite" in made.warnings()[0]
    assert json.loads(made.to_json())["before"]["log_loss"]["value"] == "inf"
    page = made.to_html()
    assert not re.search(r"\b(nan|inf)\b", page, re.IGNORECASE)


def test_warnings_of_thin_data() -> None:
    noisy = replace(BAD, rows=50, ece_by_chance=0.16, ece_by_chance_high=0.2)
    assert "ECE of 0.160" in report(noisy, GOOD).warnings()[0]
    rows = tuple(replace(row, count=0) for row in BAD.per_class[:1]) + BAD.per_class[1:]
    assert report(replace(BAD, per_class=rows), GOOD).warnings() == (f"1 of 3 classes has no rows: {rows[0].name}.",)
    rows = tuple(replace(row, count=0) for row in BAD.per_class[:2]) + BAD.per_class[2:]
    assert "All labels are of one class" in report(replace(BAD, per_class=rows), GOOD).warnings()[0]


def test_clearly_lower_needs_both_values_outside_both_intervals() -> None:
    assert clearly_lower(near(0.1, 0.05), near(0.2, 0.05))
    assert not clearly_lower(near(0.2, 0.05), near(0.1, 0.05))
    assert not clearly_lower(near(0.1, 0.01), near(0.2, 0.15))
    assert not clearly_lower(near(0.1, 0.15), near(0.2, 0.01))
    assert not clearly_lower(near(math.nan), near(0.2))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.4951, "2.495"),
        (0.0352, "0.035"),
        (0.00312, "0.0031"),
        (0.000034, "0.00003"),
        (0.0, "0.000"),
        (-0.02, "\u22120.020"),
        (-1e-9, "0.00000"),
        (12345.6, "12,346"),
        (math.nan, "\u2013"),
        (math.inf, "\u2013"),
        (-math.inf, "\u2013"),
        (None, "\u2013"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.7614, "76 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.9996, "99.96 %"),
        (0.0004, "0.04 %"),
        (1 - 1e-12, "100.000000 %"),
        (math.nan, "\u2013"),
        (None, "\u2013"),
    ],
)
def test_percent(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_shorten_keeps_both_ends() -> None:
    assert shorten("abc", 3) == "abc"
    assert shorten("a" * 50 + "z" * 50, 10) == "aaaaaa\u2026zzz"


class Page(HTMLParser):
    """Checks that every element closes, in order, and collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def reports() -> Iterator[tuple[str, CalibrationReport]]:
    for k in (2, 10, 1000):
        z, labels = drawn(k)
        names = [f"{HOSTILE} {j}" if j % 2 else "long name " * 40 + str(j) for j in range(k)]
        before, after = (evaluate(softmax(z, t), labels, classes=names, resamples=20) for t in (0.5, 1.0))
        made = report(before, after)
        yield f"{k} classes", replace(made, source=f"{HOSTILE}\"'&.csv", classes=tuple(names))
    empty = replace(
        BAD,
        reliability=(),
        per_class=(),
        confidence_histogram=(),
        mean_confidence=math.nan,
        accuracy=Estimate(value=math.nan, low=math.nan, high=math.nan),
        exact=False,
    )
    yield "nothing to draw", report(empty, empty, interval=None, standard_error=None)
    one = replace(BAD, reliability=BAD.reliability[:1], confidence_histogram=(0,) * 49 + (600,))
    yield "one bin", report(one, one)


@pytest.mark.parametrize("made", [pytest.param(made, id=name) for name, made in reports()])
def test_page_is_whole_safe_and_small(made: CalibrationReport) -> None:
    text = made.to_html()
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags
    assert len(text.encode()) < 300_000
    assert not re.search(r"\b(nan|NaN|inf|None)\b", text)
    # Nothing that a browser would fetch or run.
    assert not re.search(r"https?:|//[a-z]|url\(|@import|javascript:", text, re.IGNORECASE)
    for _, attributes in page.tags:
        assert not set(attributes) & {"src", "href", "srcset", "data", "action"}
        assert not any(name.startswith("on") for name in attributes)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "svg":
            assert set((attributes["aria-labelledby"] or "").split()) <= set(ids)
    assert tags.count("h1") == 1
    assert tags.count("svg") == 4
    assert made.verdict().replace(" %", "\u00a0%").replace("T = ", "T\u00a0=\u00a0") in page.words


def test_hostile_names_are_shown_as_text() -> None:
    name, made = next(reports())
    text = made.to_html()
    assert name == "2 classes"
    assert HOSTILE not in text
    assert any(f"{HOSTILE} 1" in words for words in Page(text).words)


def test_per_class_table_stops_at_thirty() -> None:
    text = report(evaluation(k=1000), evaluation(k=1000)).to_html()
    assert "970 more classes" in text
    assert text.count('<th scope="row">class ') == 30
    assert "more classes" not in report(evaluation(k=30), evaluation(k=30)).to_html()


def test_equal_reports_give_equal_pages() -> None:
    assert report(BAD, GOOD).to_html() == report(BAD, GOOD).to_html()


def test_dict_is_json_with_the_verdict() -> None:
    made = report(BAD, GOOD)
    plain = json.loads(made.to_json())
    assert plain["verdict"] == made.verdict()
    assert plain["after"]["ece"]["value"] == 0.035
    assert Calibrator.from_json(json.dumps(plain["calibrator"])) == made.calibrator


@pytest.mark.parametrize("draw", [reliability_diagram, confidence_histogram])
@pytest.mark.parametrize("series", ["before", "after"])
def test_figures_are_xml_with_words(draw: Any, series: Any) -> None:
    for _, made in reports():
        text = draw(made.before, series)
        assert not re.search(r"nan|inf|None|e[+-]\d", text)
        root = ElementTree.fromstring(text)
        assert root.tag == "svg"
        assert root.find("title") is not None
        assert (root.findtext("desc") or "").endswith(".")


def test_diagram_puts_points_where_the_numbers_are() -> None:
    root = ElementTree.fromstring(reliability_diagram(BAD, "before"))
    points = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]
    (ideal,) = (line.attrib for line in root.iter("line") if line.attrib["class"] == "ideal")
    left, right, bottom, top = (float(ideal[name]) for name in ("x1", "x2", "y1", "y2"))
    expected = [
        (left + (right - left) * item.confidence, bottom + (top - bottom) * item.accuracy) for item in BAD.reliability
    ]
    np.testing.assert_allclose(points, expected, atol=0.06)
    (band,) = root.iter("polygon")
    assert len(band.attrib["points"].split()) == 2 * len(BAD.reliability)


def test_pair_is_a_file_of_its_own() -> None:
    text = reliability_pair(BAD, GOOD)
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert {"width", "height", "viewBox"} <= set(root.attrib)
    assert len(list(root.iter(f"{space}circle"))) == len(BAD.reliability) + len(GOOD.reliability)
    assert "prefers-color-scheme: dark" in text
    assert "url(" not in text
    assert len(text) < 30_000
