"""examples/notebook.ipynb runs from top to bottom, and its progress is one line that moves."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook.ipynb"


def texts(cell):
    for output in cell.outputs:
        yield output.get("text") or output.get("data", {}).get("text/plain") or ""


def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = {name: cell for cell in cells for name in ["synth", "suite run", "pivot_table", "load_backbone"] if name in cell.source}
    assert any("drawing pictures: " in text for text in texts(found["synth"]))
    moving = [output for output in found["synth"].outputs if output.output_type == "display_data"]
    # One for each work, however many lines it printed.
    assert 1 <= len(moving) <= 4
    assert "supervised" in "".join(texts(found["pivot_table"]))
    assert "torch.Size([4, 64])" in "".join(texts(found["load_backbone"]))
    assert (tmp_path / "suite/report.html").exists()
