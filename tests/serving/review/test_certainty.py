"""Which clips a study shows first, by how sure a model is of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from fer_tf.errors import InputError
from serving.review.certainty import certainty_bins
from serving.review.store import FIRST, Store
from serving.review.study import Study, StudyOptions


def test_the_least_certain_clips_come_first(options: StudyOptions, store: Store, tmp_path: Path) -> None:
    clips = list(Study(options, store).clips)
    lines = [
        {"input": f"/data/clips/{clip}", "faces": [{"probabilities": {"happy": p, "sad": 1 - p}}]}
        for clip, p in zip(clips, (0.99, 0.9, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55), strict=True)
    ]
    (tmp_path / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for_each = Study(dataclasses.replace(options, predictions=str(tmp_path / "predictions.jsonl")), store)
    assert for_each.left("anna", FIRST)[0] == clips[::-1]
    (tmp_path / "p.csv").write_text(f"video,probability\n{clips[3]},0.5\n{clips[3]},0.7\n{clips[5]},0.4\n")
    by_table = Study(dataclasses.replace(options, predictions=str(tmp_path / "p.csv")), store)
    assert by_table.left("ben", FIRST)[0][:2] == [clips[5], clips[3]]
    # Predictions name files as the disk does: another case, or letters apart from their accents.
    (tmp_path / "p.csv").write_text(f"video,probability\n{clips[3].upper()},0.5\n/x/{clips[5]},0.4\n")
    by_disk = Study(dataclasses.replace(options, predictions=str(tmp_path / "p.csv")), store)
    assert by_disk.left("ben", FIRST)[0][:2] == [clips[5], clips[3]]
    (tmp_path / "p.csv").write_text("video,expression\na,happy\n")
    with pytest.raises(InputError, match=r"p\.csv, line 1: needs the columns"):
        Study(dataclasses.replace(options, predictions=str(tmp_path / "p.csv")), store)


def test_a_clip_that_is_called_alike_in_another_case_has_its_own_certainty(tmp_path: Path) -> None:
    composed, apart = "Ren\u00e9e.mp4", "Rene\u0301e.mp4"
    (tmp_path / "p.csv").write_text(f"input,probability\n/x/{apart},0.9\nA.mp4,0.5\na.mp4,0.8\nx/A.MP4,0.1\n")
    # Which of a.mp4 and A.mp4 the last row means, nobody can tell.
    assert certainty_bins(str(tmp_path / "p.csv"), [composed, "a.mp4", "A.mp4"]) == {
        "A.mp4": 0,
        "a.mp4": 3,
        composed: 6,
    }
