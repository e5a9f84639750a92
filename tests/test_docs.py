"""The documentation that is made from data is what its generator writes."""

import doctest
import importlib.util
import xml.etree.ElementTree
from pathlib import Path

import pytest
import semantics

DOCS = Path(__file__).parent.parent / "docs"


PAGES = ("averages", "curvature", "energies", "exclusive_or_not")  # with a figure


def generator(name="semantics"):
    """A script of docs, under another name than the helper of the tests."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_special_values_is_up_to_date():
    made = generator().markdown()
    assert (DOCS / "semantics.md").read_text(encoding="utf-8") == made, "run python docs/semantics.py"


def test_every_row_of_the_table_is_one_line_of_the_page():
    page = (DOCS / "semantics.md").read_text(encoding="utf-8").splitlines()
    lines = [line for line in page if line.startswith("| ") and not line.startswith("| case |")]
    rows = [row for kind in semantics.KINDS for row in semantics.sections(kind)]
    assert len(lines) == len(rows)
    told = sorted(line.replace("\\|", "|").split(" | ")[0].removeprefix("| ") for line in lines)
    for name, row in zip(told, sorted(rows, key=lambda row: row["name"]), strict=True):
        assert name.startswith(row["name"])


def test_cells_do_not_break_the_table():
    page = (DOCS / "semantics.md").read_text(encoding="utf-8")
    for line in page.splitlines():
        if line.startswith("| "):
            assert line.replace("\\|", "").count("|") == 6, line


@pytest.mark.parametrize("name", [*PAGES, "attention", "losses", "models", "sampling"])
def test_examples_of_the_pages_run(name):
    if name in ("averages", "models"):
        pytest.importorskip("sklearn")
    found = doctest.testfile(str(DOCS / f"{name}.md"), module_relative=False, encoding="utf-8")
    assert found.attempted > 5
    assert found.failed == 0


@pytest.mark.parametrize("name", PAGES)
def test_figures_are_up_to_date(name):
    made = generator(name).figure()
    assert xml.etree.ElementTree.fromstring(made).tag.endswith("svg")
    assert (DOCS / f"{name}.svg").read_text(encoding="utf-8") == made, f"run python docs/{name}.py"
    assert f"({name}.svg)" in (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_examples_of_the_page_on_torch_run():
    pytest.importorskip("torch", exc_type=ImportError)
    found = doctest.testfile(str(DOCS / "torch.md"), module_relative=False, encoding="utf-8")
    assert found.attempted > 5
    assert found.failed == 0
