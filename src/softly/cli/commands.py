"""The commands and their options. Bodies import what they need, so that --help and --version start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from softly import __version__

KINDS = ("logits", "log_probabilities", "probabilities")  # as softly.calibration.kinds, which needs NumPy


def _names(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """`a,b,c` as names; a name with a comma may stand in double quotes."""
    import csv

    return None if value is None else tuple(next(csv.reader([value], skipinitialspace=True), ()))


_label = click.option(
    "--label",
    metavar="COL",
    help="Column of the true classes, by index or name. For .npz the array (default: labels), for .npy a second file.",
)
_scores = click.option(
    "--scores", metavar="PATTERN", help="Columns of scores, such as 'logit_*'; or one list column or array."
)
_classes = click.option(
    "--classes", metavar="A,B,C", callback=_names, help="Names of the classes, in the order of the columns."
)
_kind = click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="What the scores are. Not given: logits, refused if they look like probabilities.",
)
_force = click.option("--force", is_flag=True, help="Replace outputs that exist.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON only, for machines.")


class _InOrder(click.Group):
    """Lists commands in the order in which they are needed, not of the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def softly(context: click.Context) -> None:
    """Raw scores to probabilities that can be trusted.

    Try `softly demo`, or `softly probabilities 2 1 -1`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# No short options, and unknown ones are arguments: -1, -inf and -1e3 are numbers.
@softly.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("scores", nargs=-1, type=click.UNPROCESSED)
@click.option("--file", "path", type=click.Path(path_type=Path), help="Read scores from a text file, a row a line.")
@click.option("--names", metavar="A,B,C", callback=_names, help="What the scores belong to.")
@click.option("--temperature", type=float, default=1.0, metavar="T", help="Divides the scores; 0 and inf are limits.")
@click.option("--alpha", type=float, default=1.0, metavar="A", help="1: softmax (default). 2: sparsemax, exact zeros.")
@click.option("--shift", type=float, metavar="C", help="Add C to every score; no probability changes.")
@click.option("--explain", is_flag=True, help="Show the naive float32 computation beside the stable one.")
@_json
def probabilities(scores: tuple[str, ...], path: Path | None, as_json: bool, **options: Any) -> None:
    """Turn a few scores into probabilities.

    SCORES are numbers, also inf and -inf (impossible). Without them they are read from standard input: a row a line,
    separated by spaces or commas; lines of one number each make one row. JSON has a list, or for several rows a list
    of lists.
    """
    from softly.cli import probabilities as command

    result = command.calculate(command.read_scores(scores, path), **options)
    command.print_json(result) if as_json else command.show(result)


@softly.command()
@click.option("--out", metavar="DIR", default="softly-demo", show_default=True, help="Where the three files go.")
@_force
def demo(out: str, force: bool) -> None:
    """Calibrate the bundled scores of a digit classifier.

    It was trained on one data set (USPS) and run on another (MNIST): often wrong, always sure.
    """
    from importlib.resources import as_file, files

    from softly.cli import fitting

    with as_file(files("softly") / "data" / "usps_on_mnist.npz") as path:
        fitting.calibrate(path, label="labels", out=out, overwrite=force)


@softly.command()
@click.argument("source", metavar="SCORES")
@_label
@click.option("--out", metavar="DIR", required=True, help="Directory for calibrator, probabilities and report.")
@_scores
@_classes
@_kind
@click.option("--folds", type=int, default=5, show_default=True, help="Parts for cross-fitting.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the folds and the bootstrap."
)
@_force
@_json
@click.option("--strict", is_flag=True, help="Exit 1 if there is a warning.")
@click.pass_context
def calibrate(context: click.Context, /, source: str, force: bool, as_json: bool, strict: bool, **options: Any) -> None:
    """Make the probabilities of labelled scores honest.

    Fits a temperature and shows what it does on rows that were not fitted.


    SCORES is a file (.csv, .csv.gz, .parquet, .arrow, .feather, .npy, .npz), or a directory or 'pattern' of Parquet
    files. Writes calibrator.json, the calibrated probabilities in the format of SCORES, and report.html.
    """
    from softly.cli import fitting

    report = fitting.calibrate(source, overwrite=force, as_json=as_json, **options)
    if strict and report.warnings():
        context.exit(1)


@softly.command()
@click.argument("calibrator")
@click.argument("source", metavar="SCORES")
@click.option("--out", metavar="FILE", required=True, help="Where to write, in the format of SCORES.")
@_scores
@_classes
@_force
def apply(
    calibrator: str, source: str, out: str, scores: str | None, classes: tuple[str, ...] | None, force: bool
) -> None:
    """Add calibrated probabilities to new scores.

    CALIBRATOR is the calibrator.json of a fit. SCORES is as for `softly calibrate`, without labels.
    """
    from softly.cli import fitting

    fitting.apply(calibrator, source, out=out, scores=scores, classes=classes, overwrite=force)


@softly.command()
@click.argument("source", metavar="SCORES")
@_label
@_scores
@_classes
@_kind
@_json
def evaluate(source: str, as_json: bool, **options: Any) -> None:
    """Say how right and how honest scores are.

    SCORES is as for `softly calibrate`.
    """
    from softly.cli import fitting

    fitting.evaluate(source, as_json=as_json, **options)


@softly.command()
@click.argument("data")
@click.option("--label", metavar="COL", required=True, help="Column of the classes.")
@click.option("--out", metavar="MODEL", required=True, help="Where the model goes, one .npz file.")
@click.option("--sequence", metavar="COL", help="Column of DNA sequences, taken as their k-mers.")
@click.option("--features", metavar="PATTERN", help="Columns of numbers, such as 'x_*'. Not given: all but the label.")
@click.option("--kmer", type=int, default=4, show_default=True, help="Letters of a word of a sequence.")
@click.option("--l2", type=float, default=1.0, show_default=True, help="Penalty on the coefficients.")
@click.option("--target", type=float, default=0.95, show_default=True, help="Share of assigned rows to be right.")
@click.option("--folds", type=int, default=5, show_default=True, help="Parts for cross-fitting.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the folds.")
@_force
@_json
@click.option("--strict", is_flag=True, help="Exit 1 if there is a warning.")
@click.pass_context
def fit(context: click.Context, /, data: str, force: bool, as_json: bool, strict: bool, **options: Any) -> None:
    """Fit a calibrated classifier of rows or sequences.

    DATA is a table (.csv, .csv.gz, .parquet) or FASTA, whose label is a part of the header between |, from 1. Rows
    whose largest probability is below a threshold, chosen on held-out rows, will be unassigned.
    """
    from softly.cli import assigning

    report = assigning.fit(data, overwrite=force, as_json=as_json, **options)
    if strict and report.warnings():
        context.exit(1)


@softly.command()
@click.argument("model")
@click.argument("data")
@click.option("--out", metavar="FILE", required=True, help="Where to write, .csv or .parquet.")
@click.option("--declared", metavar="COL", help="Column of declared classes: does each row fit its own?")
@click.option("--false-alarm", type=float, default=0.05, show_default=True, help="Most of the honest rows to flag.")
@_force
@_json
def predict(model: str, data: str, force: bool, as_json: bool, **options: Any) -> None:
    """Give rows their class, or none where unsure.

    MODEL is the file of `softly fit`, DATA as there. Adds the columns assigned and p_<class>; with --declared also
    p_value and verdict.
    """
    from softly.cli import assigning

    assigning.predict(model, data, overwrite=force, as_json=as_json, **options)


@softly.command()
@_json
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Say what is installed, and which compiled core.

    Also whether that core computes rightly (exit 1 if not), and what to do where something is missing.
    """
    from softly.cli import doctor as command

    state = command.examine()
    command.print_json(state) if as_json else command.show(state)
    if state["agreement"] is False:
        context.exit(1)
