"""One file under several names is one clip: what contradicts is not used, what repeats counts once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines import chunks, extract
from beam_pipelines.same_files import settle_same_files
from fer_tf.data.annotations import AnnotationOptions
from fer_tf.data.tasks import stable_hash


@pytest.mark.parametrize("other", ["A.MP4", "Take 1/a.mp4", "link.mp4", "hard.mp4", "folder/a.mp4"])
def test_a_file_is_known_however_it_is_called(tmp_path: Path, other: str) -> None:
    (tmp_path / "take 1").mkdir()
    for name in ("a.mp4", "take 1/a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(name.encode() * 9)
        os.utime(tmp_path / name, ns=(1, 1))
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    (tmp_path / "folder").symlink_to(tmp_path / "take 1")
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    locate = extract.Videos(str(tmp_path)).locate
    called = "take 1/a.mp4" if "/" in other else "a.mp4"
    assert locate(other)[1:] == locate(called)[1:]
    # Of one size and time.
    (tmp_path / "b.mp4").write_bytes((tmp_path / called).read_bytes())
    os.utime(tmp_path / "b.mp4", ns=(1, 1))
    assert locate("b.mp4")[1] == locate(called)[1] and locate("b.mp4")[2] != locate(called)[2]


ROWS = (
    ("A.mp4", "P1,happy,front"),
    ("a.mp4", "P2,sad,front"),
    ("b.mp4", "P1,happy,front"),
    ("B.mp4", "p1,Happy,front"),
    ("x/b.mp4", "P1,happy,front"),
    ("c.mp4", "P3,happy,front"),
)
FILES = {"A.mp4": "1", "a.mp4": "1", "b.mp4": "2", "B.mp4": "2", "x/b.mp4": "2", "c.mp4": "3"}


@pytest.mark.parametrize("chunk_bytes", [1 << 20, 20])
@pytest.mark.parametrize("take", ["", "1"])
def test_names_of_one_file_are_settled_as_rows_of_one_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, take: str
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
    lines = [f"{name},{said},{take}" for name, said in ROWS]
    (tmp_path / "a.csv").write_text("\n".join(("video,person,expression,pose,take", *lines)))
    building = str(tmp_path / "building")
    census = chunks.partition(str(tmp_path / "a.csv"), building, AnnotationOptions())
    assert census.clips == 6 and (len(census.chunks) > 1) is (chunk_bytes < 100)
    for chunk in census.chunks:
        outcomes = []
        for place, clip in enumerate(chunks.read_clips(building, chunk)):
            face = np.zeros(2, chunks.FACE_INDEX)
            face["clip"] = place
            file = stable_hash(FILES[clip.clip_id])
            outcomes.append(extract.Outcome(place, face.tobytes(), cache=clip.clip_id, file=file))
        list(extract.WriteIndex(building).process((chunk, outcomes)))
    assert settle_same_files(building, census) == {"conflicting_rows": 2, "duplicate_row": 2}
    left = []
    for chunk in census.chunks:
        clips = chunks.read_clips(building, chunk)
        left += [clips[place].clip_id for place in chunks.read_index(building, chunk)["clip"].tolist()]
    assert sorted(left) == ["B.mp4", "B.mp4", "c.mp4", "c.mp4"]
    listed = [
        json.loads(line) for path in chunks.rejected_paths(building) for line in Path(path).read_text().splitlines()
    ]
    assert sorted((row["clip"], row["reason"], row["line"]) for row in listed) == [
        ("A.mp4", "conflicting_rows", 2),
        ("a.mp4", "conflicting_rows", 3),
        ("b.mp4", "duplicate_row", 4),
        ("x/b.mp4", "duplicate_row", 6),
    ]
    details = {row["clip"]: row["detail"] for row in listed}
    assert details["b.mp4"] == "the same file as B.mp4, line 5"
    assert "A.mp4 (line 2), a.mp4 (line 3), say different things" in details["a.mp4"]
