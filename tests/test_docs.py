"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fer_tf

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
# Paths of the repository's own packages, and of documents, in backticks or behind a link.
NAMED = re.compile(r"`((?:fer_tf|beam_pipelines|trainer|serving|benchmarks|cluster|tests|docs)/[\w./-]+)`")
LINKED = re.compile(r"\]\(([\w./-]+)\)")
MODULES = re.compile(r"python -m ((?:fer_tf|beam_pipelines|trainer|serving|benchmarks|cluster)[\w.]*)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_command_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    missing = [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    missing += [name for name in LINKED.findall(text) if not (document.parent / name).exists()]
    for module in {name.rstrip(".") for name in MODULES.findall(text)}:
        path = ROOT / module.replace(".", "/")
        if not path.with_suffix(".py").exists() and not (path / "__main__.py").exists():
            missing.append(module)
    assert not missing, f"{document.name} names {missing}"


def test_files_beside_another_in_the_table_of_files_exist() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().split("## Which file to change")[1].split("## Layers")[0]
    named = 0
    for row in table.splitlines():
        folder = ROOT
        for name in re.findall(r"`([\w./-]+(?:\.(?:py|html|js|j2)|/))`", row):
            path = ROOT / name if "/" in name.rstrip("/") else folder / name
            assert path.exists(), f"no {path}: {row}"
            folder = path.parent
            named += 1
    assert named > 30


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == fer_tf.__version__
