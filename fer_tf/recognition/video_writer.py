"""Writes the annotated video, frame by frame."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from fer_tf import files
from fer_tf.faces.frame import ClipError
from fer_tf.recognition.drawing import annotate
from fer_tf.recognition.earlier import MARK
from fer_tf.recognition.looking import SeenFrame
from fer_tf.recognition.tables import not_written

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
        """Adds a frame.

        Raises:
          ClipError: when it cannot be encoded; its clip is then not drawn.
          CannotWrite: when the disk is full.
        """
        if not self._path:
            return
        faces = [(face.number, face.box, face.answer) for face in seen.faces]
        with self._told(seen.source.name):
            self._write(annotate(seen.rgb, faces, self._top), seen.time)

    def _write(self, rgb: np.ndarray, time: float) -> None:
        # H.264 with 4:2:0 wants even sides; of one pixel it takes none.
        height, width = (max(2, side - side % 2) for side in rgb.shape[:2])
        if self._container is None:
            self._open(width, height)
        missing = [(0, max(0, 2 - side)) for side in rgb.shape[:2]]
        rgb = np.pad(rgb, [*missing, (0, 0)], mode="edge")[:height, :width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        if (width, height) != (self._stream.width, self._stream.height):
            frame = frame.reformat(self._stream.width, self._stream.height)
        self._last = max(self._last + 1, round(time / TIME_BASE))
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Tells what the encoder refuses as the clip's error, and a disk without room as the output's."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            failed = not_written(self._path, error)
            if isinstance(failed, files.CannotWrite):
                raise failed from None
            raise ClipError("not_drawn", name, f"its annotated copy cannot be encoded: {error}") from None

    def _open(self, width: int, height: int) -> None:
        self._file = files.whole_path(self._path)
        # With its protocol, a colon in a folder's name is none.
        self._container = av.open(f"file:{self._file.__enter__()}", "w")
        self._container.metadata["comment"] = MARK
        self._stream = self._container.add_stream("libx264", rate=30, options={"crf": "20", "preset": "veryfast"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE

    def __exit__(self, *error: Any) -> None:
        if self._container is None:
            return
        try:
            with contextlib.suppress(av.FFmpegError, OSError) if error[0] else self._told(self._path):
                if not error[0]:
                    self._container.mux(self._stream.encode())
                self._container.close()
        except BaseException:
            self._file.__exit__(*sys.exc_info())
            raise
        self._file.__exit__(*error)
