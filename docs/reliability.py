"""Draws docs/reliability.svg, the README's picture, from the demo's held-out rows. Run: python docs/reliability.py"""

import tempfile
from importlib import resources
from pathlib import Path

import softly
from softly.report import reliability_pair

source = resources.files("softly") / "data" / "usps_on_mnist.npz"
with resources.as_file(source) as path, tempfile.TemporaryDirectory() as out:
    report = softly.calibrate_file(path, label="labels", out=out)
picture = reliability_pair(report.before, report.after)
(Path(__file__).parent / "reliability.svg").write_text(picture)
