"""Executes a notebook's code cells in this process and keeps what they show.

`python -m tests.notebook docs/quickstart.ipynb` writes the outputs into the notebook.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import re
import sys
from typing import Any


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """Returns the notebook with its outputs: what cells print, and how their last line shows itself.

    Args:
      notebook: as `json.load` reads an .ipynb; cells may use plain Python alone.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell = {**cell, "execution_count": number, "outputs": _outputs("".join(cell["source"]), names, number)}
        cells.append(cell)
    return {**notebook, "cells": cells}


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": _shown(value)}
        outputs.append(result)
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    # Without the place in memory, which is another in every run.
    data: dict[str, Any] = {"text/plain": re.sub(r" at 0x\w+", "", repr(value)).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_") and (html := value._repr_html_()):
        data["text/html"] = html.splitlines(keepends=True)
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return data


def main(path: str) -> None:
    """Executes a notebook in place; its cells may change the working folder."""
    path = os.path.abspath(path)
    with open(path, encoding="utf-8") as file:
        notebook = json.load(file)
    notebook = executed(notebook)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(notebook, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
