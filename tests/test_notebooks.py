"""The notebooks of ``docs/notebooks`` run in a real kernel, and show what they should."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from dists import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("torch")
pytest.importorskip("pandas")

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs a notebook once, and returns it with its outputs."""
    done = {}

    def execute(path):
        if path not in done:
            notebook = nbformat.read(path, as_version=4)
            folder = str(tmp_path_factory.mktemp(path.stem))
            nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
            done[path] = notebook
        return done[path]

    return execute


def html(notebook):
    """All HTML that the cells show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {}))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, run):
    notebook = run(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    printed = "".join(output["text"] for cell in code for output in cell.outputs if output.output_type == "stream")
    assert "Traceback" not in printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_exist(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(([^)#]+)\)", cell.source):
                assert (path.parent / link).exists(), link


def test_results_are_shown_as_tables_and_sentences(run):
    shown = html(run(ROOT / "docs" / "notebooks" / "your-own-shop.ipynb"))
    for words in (
        "to generate by",
        "Over all items: ",
        "popularity (reference)",
        "The report, with plots",
        "For user u0",
        "beside",
    ):
        assert words in shown, words
    assert '<progress style="width:12em"' in shown


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_the_outputs(run, tmp_path):
    page = tmp_path / "outputs.html"
    body = html(run(ROOT / "docs" / "notebooks" / "your-own-shop.ipynb"))
    script = (
        "<script>window.onload=()=>{document.querySelector('details').open=true;setTimeout(()=>{"
        "document.title=[document.querySelectorAll('table').length>5,"
        "document.querySelector('iframe').getBoundingClientRect().height>500].join()},200)}</script>"
    )
    page.write_text(f"<!doctype html><meta charset=utf-8><title></title>{body}{script}", encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    assert "<title>true,true</title>" in done.stdout
