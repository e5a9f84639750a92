"""The documentation that is made from data is what its generator writes."""

import importlib.util
from pathlib import Path

import semantics

DOCS = Path(__file__).parent.parent / "docs"


def generator():
    """docs/semantics.py, under another name than the helper of the tests."""
    spec = importlib.util.spec_from_file_location("docs_semantics", DOCS / "semantics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_special_values_is_up_to_date():
    made = generator().markdown()
    assert (DOCS / "semantics.md").read_text(encoding="utf-8") == made, "run python docs/semantics.py"


def test_every_row_of_the_table_is_one_line_of_the_page():
    page = (DOCS / "semantics.md").read_text(encoding="utf-8").splitlines()
    lines = [line for line in page if line.startswith("| ") and not line.startswith("| case |")]
    rows = [row for kind in ("case", "fit", "planned") for row in semantics.sections(kind)]
    assert len(lines) == len(rows)
    told = sorted(line.replace("\\|", "|").split(" | ")[0].removeprefix("| ") for line in lines)
    for name, row in zip(told, sorted(rows, key=lambda row: row["name"]), strict=True):
        assert name.startswith(row["name"])


def test_cells_do_not_break_the_table():
    page = (DOCS / "semantics.md").read_text(encoding="utf-8")
    for line in page.splitlines():
        if line.startswith("| "):
            assert line.replace("\\|", "").count("|") == 6, line
