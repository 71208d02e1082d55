"""One file under several names: what the annotations say of it is settled as if it were called alike in all rows.

Names may differ in case or Unicode form, or lead to a file through links (`Videos.locate`). Which file a clip is, is
known once it was found, so that this stands between extraction and the plan; no file is asked for again.
"""

from __future__ import annotations

import collections
import dataclasses
from dataclasses import dataclass

import numpy as np

from beam_pipelines import chunks, extract
from beam_pipelines.chunks import Census
from fer_tf import files
from fer_tf.data.annotations import AnnotatedClip, BadRow
from fer_tf.data.settle import conflicts


def settle_same_files(building: str, census: Census) -> collections.Counter:
    """Takes clips that are one file out of the chunks' indexes, but for one where all say the same of it.

    Args:
      building: folder of the chunks, whose clips were extracted.
      census: what the annotations hold.

    Returns:
      How many clips were left out, by reason; they are listed among what the build rejects.
    """
    by_chunk: dict[int, list[int]] = {}
    rows: list[BadRow] = []
    for clips in _same_files(building, census):
        for named, row in _left_out(clips):
            by_chunk.setdefault(named.chunk, []).append(named.place)
            rows.append(row)
    for chunk, places in by_chunk.items():
        index = chunks.read_index(building, chunk)
        files.write_bytes(chunks.index_path(building, chunk), index[~np.isin(index["clip"], places)].tobytes())
    if rows:
        lines = (chunks.reject_line("clip", row.reason, row.clip_id, line=row.line, detail=row.detail) for row in rows)
        files.write_lines(chunks.rejected_path(building, "same-files"), lines)
    return collections.Counter(row.reason for row in rows)


@dataclass(frozen=True)
class _Named:
    """A clip, its chunk and its place there."""

    chunk: int
    place: int
    clip: AnnotatedClip


def _same_files(building: str, census: Census) -> list[list[_Named]]:
    """The clips of each file that several clips are, in order of their names; 40 bytes a clip."""
    parts = []
    for chunk in census.chunks:
        found = extract.read_summary(building, chunk)["files"]
        part = np.zeros(len(found), [("file", "<u8"), ("chunk", "<i4"), ("place", "<i4")])
        part["file"], part["place"], part["chunk"] = list(found.values()), list(found), chunk
        parts.append(part)
    every = np.concatenate(parts) if parts else np.zeros(0)
    if len(every) < 2:
        return []
    every = every[np.argsort(every["file"], kind="stable")]
    same = every["file"][1:] == every["file"][:-1]
    several = every[np.append(same, False) | np.append(False, same)]
    by_file: dict[int, list[_Named]] = {}
    for chunk in np.unique(several["chunk"]).tolist():
        clips = chunks.read_clips(building, chunk)
        for file, _, place in several[several["chunk"] == chunk].tolist():
            by_file.setdefault(file, []).append(_Named(chunk, place, clips[place]))
    return [sorted(found, key=lambda named: named.clip.clip_id) for _, found in sorted(by_file.items())]


def _left_out(found: list[_Named]) -> list[tuple[_Named, BadRow]]:
    clips = [named.clip for named in found]
    said = {
        dataclasses.replace(clip, clip_id="", group="" if clip.group == clip.clip_id else clip.group) for clip in clips
    }
    if len(said) > 1:
        names = ", ".join(f"{clip.clip_id} (line {clip.line})" for clip in clips)
        return list(zip(found, conflicts(clips, f"names of one file, {names},"), strict=True))
    first, *others = clips
    detail = f"the same file as {first.clip_id}, line {first.line}"
    rows = [BadRow("duplicate_row", clip.clip_id, clip.line, detail) for clip in others]
    return list(zip(found[1:], rows, strict=True))
