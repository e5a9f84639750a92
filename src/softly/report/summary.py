"""What a calibration did, in numbers and in words: the frozen result from which the page is drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isinf
from typing import TYPE_CHECKING, Any, Literal

from softly.calibration.temperature import MESSAGES, ONE_CLASS
from softly.report.figures import number, percent

if TYPE_CHECKING:
    from softly.calibration.calibrator import Calibrator
    from softly.calibration.evaluation import Estimate, Evaluation

Outcome = Literal["degenerate", "unneeded", "better", "mixed", "worse", "unclear"]

# Above this ECE by chance (about 500 rows in 15 bins) the figure says little about the model.
NOISY_ECE = 0.05
# Below this count a share is uncertain by some 6 points and more.
FEW_CLAIMS = 100


def clearly_lower(this: Estimate, other: Estimate) -> bool:
    """Whether `this` lies below `other` and each value lies outside the other's 95 % interval.

    Both are measured on the same rows, so their errors go together; for a correlation of 1/2 and more and
    alike intervals, a difference this large is beyond 95 % sampling noise. NaN is never clear.
    """
    return this.value < other.low and this.high < other.value


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """A calibrator, and what it did on rows that it was not fitted to (cross-fitting).

    `before` and `after` evaluate the same rows without and with the temperature; `created` is an ISO date
    given by the caller, so that equal inputs give equal files. `fold_statuses` are those of the fits without each
    fold; one that is not "ok" judged its rows at T = 1.
    """

    source: str
    rows: int
    classes: tuple[str, ...]
    kind: str
    folds: int
    seed: int
    calibrator: Calibrator
    before: Evaluation
    after: Evaluation
    created: str
    version: str
    fold_statuses: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Which of the six things happened; `verdict` says it in words.

        degenerate: no temperature exists. unneeded: ECE was within chance, log-loss not clearly changed.
        better: log-loss or ECE clearly lower, neither clearly higher. mixed: log-loss clearly lower, ECE
        clearly higher. worse: log-loss or ECE clearly higher otherwise. unclear: no clear change.
        """
        before, after = self.before, self.after
        if self.calibrator.status != "ok":
            return "degenerate"
        likelier = clearly_lower(after.log_loss, before.log_loss)
        if clearly_lower(before.ece, after.ece):
            return "mixed" if likelier else "worse"
        if clearly_lower(before.log_loss, after.log_loss):
            return "worse"
        if likelier:
            return "better"
        if within_chance(before):
            return "unneeded"
        return "better" if clearly_lower(after.ece, before.ece) else "unclear"

    def verdict(self) -> str:
        """Say in one sentence what the calibration did, and whether that is more than noise."""
        before, after = self.before, self.after
        ece = _from_to(before.ece, after.ece)
        log_loss = _from_to(before.log_loss, after.log_loss)
        match self.outcome:
            case "degenerate":
                reason = MESSAGES[self.calibrator.status].partition(":")[0]
                return f"No temperature was fitted, because {reason}; T = 1 leaves probabilities as they were."
            case "unneeded":
                return (
                    f"Nothing to mend: as far as {self.rows:,} rows can tell, claims came true already "
                    f"(ECE {number(before.ece.value)}, by chance up to "
                    f"{number(before.ece_by_chance_high)}), and log-loss went {log_loss}, within noise."
                )
            case "mixed":
                return (
                    f"The temperature made calibration worse: ECE rose {ece}, although log-loss fell "
                    f"{log_loss}; one temperature is not enough for these scores."
                )
            case "worse":
                rose = []
                if clearly_lower(before.ece, after.ece):
                    rose.append(f"ECE rose {ece}")
                if clearly_lower(before.log_loss, after.log_loss):
                    rose.append(f"log-loss rose {log_loss}")
                return f"The temperature made it worse: {' and '.join(rose)}; use the scores as they are."
            case "better":
                if clearly_lower(after.log_loss, before.log_loss):
                    proof = f"log-loss fell {log_loss}"
                else:
                    proof = f"ECE fell {ece}"
                story = self._claims_story()
                proof = f"{story}, and the gain is real: {proof}" if story else f"The gain is real: {proof}"
                return f"{proof}, beyond sampling noise."
            case _:
                return (
                    f"No clear change: log-loss went {log_loss} and ECE {ece}, both within sampling noise "
                    f"at {self.rows:,} rows."
                )

    def _claims_story(self) -> str:
        """What high claims were worth before and after, if before they were worth less than they said."""
        was, now = self.before.claims, self.after.claims
        claim = percent(was.threshold)
        if not (was.count and was.correct < was.claimed):
            return ""
        digits = 0 if percent(was.correct) != percent(now.correct) else 1
        right = f"Claims of {claim} and more were right {percent(was.correct, digits)} of the time"
        if not now.count:
            return f"{right}; no claim of {claim} is made any more"
        if abs(now.correct - now.claimed) >= was.claimed - was.correct:
            return ""
        few = f" (of only {now.count:,})" if now.count < FEW_CLAIMS else ""
        return f"{right}; now {percent(now.correct, digits)}{few}"

    def evidence(self) -> tuple[str, ...]:
        """Say how this was measured, whether accuracy changed and what is left to mend, a sentence each."""
        before, after = self.before, self.after
        right = percent(before.accuracy.value, 1)
        if before.accuracy.value == after.accuracy.value:
            accuracy = f"Accuracy stays {right}, since a temperature never reorders the classes."
        else:
            now = percent(after.accuracy.value, 1)
            accuracy = f"Accuracy went from {right} to {now}, by probabilities that round to ties."
        chance = (
            f"A perfectly calibrated model would show an ECE of {number(after.ece_by_chance)} by chance "
            f"on so many rows (up to {number(after.ece_by_chance_high)})"
        )
        left = "nothing measurable is left" if within_chance(after) else "some miscalibration is left"
        return (
            f"Measured on {self.rows:,} rows, each by a temperature fitted without it ({self.folds} folds).",
            accuracy,
            f"{chance}; here it is {number(after.ece.value)}, so {left}.",
        )

    def warnings(self) -> tuple[str, ...]:
        """Say what a reader must know before using the calibrator, a sentence each; empty if nothing."""
        notes = []
        if self.outcome == "degenerate":
            notes.append(_sentence(MESSAGES[self.calibrator.status]))
        failed = [status for status in self.fold_statuses if status != "ok"]
        if failed and self.outcome != "degenerate":
            notes.append(
                f"Without {len(failed)} of the {self.folds} folds no temperature could be fitted "
                f"({', '.join(sorted(set(failed)))}): their rows are judged at T = 1."
            )
        if self.outcome in ("mixed", "worse"):
            notes.append("Do not deploy this calibrator: on rows that were not fitted, it made things worse.")
        for name, evaluation in (("Before", self.before), ("After", self.after)):
            if isinf(evaluation.log_loss.value):
                notes.append(f"{name} calibration log-loss is infinite: a true class had probability 0.")
        if self.before.ece_by_chance > NOISY_ECE:
            notes.append(
                f"With {self.rows:,} rows even a perfectly calibrated model would show an ECE of "
                f"{number(self.before.ece_by_chance)}: label more rows before trusting the ECE."
            )
        unseen = [row.name for row in self.before.per_class if not row.count]
        if len(unseen) == len(self.classes) - 1:
            notes.append(_sentence(ONE_CLASS))
        elif unseen:
            names = ", ".join(shorten(name, 40) for name in unseen[:5])
            have = "has" if len(unseen) == 1 else "have"
            more = f" and {len(unseen) - 5:,} more" if len(unseen) > 5 else ""
            notes.append(f"{len(unseen):,} of {len(self.classes):,} classes {have} no rows: {names}{more}.")
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain, JSON-ready values, with the verdict and the warnings."""
        return {
            "outcome": self.outcome,
            "verdict": self.verdict(),
            "warnings": list(self.warnings()),
            "source": self.source,
            "rows": self.rows,
            "classes": list(self.classes),
            "kind": self.kind,
            "folds": self.folds,
            "seed": self.seed,
            "fold_statuses": list(self.fold_statuses),
            "calibrator": self.calibrator.to_dict(),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "created": self.created,
            "version": self.version,
        }

    def to_json(self) -> str:
        """Return `to_dict()` as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self) -> str:
        """Return one self-contained page: no network, no script, light, dark and print. Needs Jinja2."""
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup

        from softly.report import figures

        environment = Environment(
            loader=PackageLoader("softly.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(number=number, percent=percent, shorten=shorten, unbroken=unbroken)
        environment.globals.update(clearly_lower=clearly_lower)
        return environment.get_template("page.html.jinja").render(
            report=self,
            before=self.before,
            after=self.after,
            calibrator=self.calibrator,
            style=Markup(figures.STYLE),
            light=figures.LIGHT,
            dark=figures.DARK,
            dark_media=figures.DARK_MEDIA,
            reliability_diagram=lambda *about: Markup(figures.reliability_diagram(*about)),
            confidence_histogram=lambda *about: Markup(figures.confidence_histogram(*about)),
        )


def within_chance(evaluation: Evaluation) -> bool:
    """Whether the ECE is no larger than a perfectly calibrated model would show (95 % quantile)."""
    return evaluation.ece.value <= evaluation.ece_by_chance_high


def shorten(text: str, length: int) -> str:
    """Cut `text` to `length` characters in the middle, keeping the beginning and the end."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return f"{text[:head]}\u2026{text[len(text) - (length - 1 - head) :]}"


def unbroken(text: str) -> str:
    """Keep numbers and their per cent sign on one line."""
    return text.replace(" %", "\u00a0%").replace("T = ", "T\u00a0=\u00a0")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def _from_to(old: Estimate, new: Estimate) -> str:
    words = [("infinity" if isinf(estimate.value) else number(estimate.value)) for estimate in (old, new)]
    return f"from {words[0]} to {words[1]}"
