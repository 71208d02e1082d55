"""The notebook for a first look runs, and shows what it showed when it was committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.notebook import executed

NOTEBOOK = Path(__file__).parent.parent / "docs" / "quickstart.ipynb"


def committed() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def kinds(notebook: dict[str, Any]) -> list[list[str]]:
    """What each code cell shows: the kinds of its outputs."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [[kind for output in cell["outputs"] for kind in output.get("data", ["stream"])] for cell in cells]


def test_the_part_on_recognition_shows_what_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # And back after the test: the notebook works in a folder of its own.
    notebook = committed()
    titles = ["".join(cell["source"]).startswith("## Build") for cell in notebook["cells"]]
    notebook["cells"] = notebook["cells"][: titles.index(True)]
    shown = executed(notebook)
    assert kinds(shown) == kinds(notebook)
    assert ["text/plain", "image/png"] in kinds(shown)
    table = "".join(shown["cells"][3]["outputs"][0]["data"]["text/plain"])
    # pandas 2 and 3 put other blanks between a table's columns.
    assert table.split() == "".join(notebook["cells"][3]["outputs"][0]["data"]["text/plain"]).split()


def test_every_cell_was_executed_in_order_and_no_path_of_a_machine_is_shown() -> None:
    cells = [cell for cell in committed()["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = json.dumps([cell["outputs"] for cell in cells])
    assert "/samples/" not in shown and "/tmp" not in shown and str(NOTEBOOK.parent) not in shown


@pytest.mark.slow
def test_the_whole_notebook_builds_trains_and_serves(tmp_path: Path) -> None:
    import shutil
    import subprocess
    import sys

    copy = shutil.copy(NOTEBOOK, tmp_path / "copy.ipynb")
    subprocess.run(
        [sys.executable, "-m", "tests.notebook", str(copy)], check=True, timeout=1200, cwd=NOTEBOOK.parent.parent
    )
    assert kinds(json.loads(Path(copy).read_text())) == kinds(committed())
