"""Writes the annotated video, frame by frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

from fer_tf import files
from fer_tf.recognition.drawing import annotate
from fer_tf.recognition.looking import SeenFrame

# Fine enough for every frame rate, so that the frames keep their own times.
TIME_BASE = Fraction(1, 90000)


class VideoWriter:
    """Draws on frames and encodes them as H.264; the file gets its name when it is complete.

    Args:
      path: the video; empty writes nothing.
      top: how many expressions to show for a face.
    """

    def __init__(self, path: str, top: int) -> None:
        self._path, self._top = path, top
        self._container: Any = None
        self._last = -1

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, seen: SeenFrame) -> None:
        """Adds a frame."""
        if not self._path:
            return
        faces = [(face.number, face.box, face.answer) for face in seen.faces]
        # H.264 with 4:2:0 wants even sides.
        height, width = (side - side % 2 for side in seen.rgb.shape[:2])
        if self._container is None:
            self._open(width, height)
        frame = av.VideoFrame.from_ndarray(annotate(seen.rgb, faces, self._top)[:height, :width], format="rgb24")
        if (width, height) != (self._stream.width, self._stream.height):
            frame = frame.reformat(self._stream.width, self._stream.height)
        self._last = max(self._last + 1, round(seen.time / TIME_BASE))
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _open(self, width: int, height: int) -> None:
        self._file = files.whole_path(self._path)
        # With its protocol, a colon in a folder's name is none.
        self._container = av.open(f"file:{self._file.__enter__()}", "w")
        self._stream = self._container.add_stream("libx264", rate=30, options={"crf": "20", "preset": "veryfast"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE

    def __exit__(self, *error: Any) -> None:
        if self._container is None:
            return
        if error[0] is None:
            self._container.mux(self._stream.encode())
        self._container.close()
        self._file.__exit__(*error)
