"""A clip is found under another spelling of its name, and a folder that cannot be read costs its own clips alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fer_tf.data.located import as_it_is_called

COMPOSED, APART = "Ren\u00e9e", "Rene\u0301e"


def test_a_name_is_found_in_another_case_or_unicode_form_and_else_stays_as_it_is(tmp_path: Path) -> None:
    for name in (f"Take 1/{APART}/B.MP4", "take 2/a.mp4", "take 2/A.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, called in (
        (f"take 1/{COMPOSED}/b.mp4", f"Take 1/{APART}/B.MP4"),
        ("Take 2/A.mp4", "take 2/A.mp4"),
        # Two files are spellings of it.
        ("take 2/A.MP4", "take 2/A.MP4"),
        ("TAKE 2/c.mp4", "take 2/c.mp4"),
        ("take 2/a.mp4/d", "take 2/a.mp4/d"),
        ("take 3/\udcff.mp4/x", "take 3/\udcff.mp4/x"),
    ):
        assert as_it_is_called(str(tmp_path), name) == str(tmp_path / called)


def test_a_folder_is_read_once_for_all_that_is_missing_and_anew_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    kept = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: read.append(folder) or kept(folder))
    (tmp_path / "A.mp4").touch()
    os.utime(tmp_path, (1, 1))
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        as_it_is_called(str(tmp_path), name)
    assert read == [str(tmp_path)]
    (tmp_path / "B.mp4").touch()
    # What changed just now may change once more at what the disk takes for the same time.
    for _ in range(2):
        assert as_it_is_called(str(tmp_path), "b.mp4") == str(tmp_path / "B.mp4")
    assert len(read) == 3


def test_a_folder_that_cannot_be_read_hides_no_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(folder: str) -> list[str]:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "listdir", denied)
    assert as_it_is_called(str(tmp_path), "a/b.mp4") == str(tmp_path / "a/b.mp4")
