"""The samples that the demo's page offers: a few pictures, the last frames of a few clips, and a few clips."""

from __future__ import annotations

import contextlib
import glob
import os
import time

import numpy as np

from fer_tf.faces.frame import ClipError, Limits
from fer_tf.faces.video import Decoder
from fer_tf.resources import samples_folder

CLIPS = 8
VIDEOS = 3
SIDE = 1024
# The page waits for its samples: larger files and longer clips are none, a decoder that says nothing for so long is
# ended, and after so long the page goes without the rest.
MAX_BYTES = 50 << 20
MAX_CLIP_SECONDS = 60.0
SILENT_SECONDS = 5.0
WAIT_SECONDS = 15.0
# So much before the end that a clip names, a frame may be its last.
_END_SECONDS = 1.0


def sample_pictures(folder: str) -> list[tuple[np.ndarray, str]]:
    """Returns pictures and the last frames of videos spread over a folder, with a caption each."""
    pictures = sorted(glob.glob(os.path.join(glob.escape(folder), "*.jpg")))
    clips = sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*.mp4"), recursive=True))
    # A stride without a common divisor with the number of cameras shows every pose.
    stride = max(1, len(clips) // CLIPS) | 1
    shown: list[tuple[np.ndarray, str]] = []
    end = time.monotonic() + WAIT_SECONDS
    with contextlib.closing(Decoder(SILENT_SECONDS, Limits(), SIDE)) as decoder:
        for path in [*pictures, *clips[::stride][:CLIPS]]:
            if time.monotonic() > end:
                break
            with contextlib.suppress(ClipError, OSError):
                if os.path.getsize(path) > MAX_BYTES:
                    continue
                if (picture := _last_frame(decoder, path, end)) is not None:
                    shown.append((picture, "/".join(os.path.splitext(path)[0].split(os.sep)[-2:])))
    return shown


def _last_frame(decoder: Decoder, path: str, end: float) -> np.ndarray | None:
    """The picture, or the last frame of the clip, uint8 (h, w, 3); None when it is long, or the time is over."""
    last = None
    with contextlib.closing(decoder.frames(path, SIDE)) as frames:
        for told in frames:
            if max(told.time, told.seconds) > MAX_CLIP_SECONDS or time.monotonic() > end:
                return None
            # Only a frame that is made costs more than its decoding; a clip may name a later end than it has.
            if last is None or not told.seconds or told.time > told.seconds - _END_SECONDS:
                last = told.frame().rgb
    return last


def sample_clips(folder: str) -> list[str]:
    """Returns a few clips of a folder, spread over it."""
    folder = samples_folder(folder)
    clips = sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*.mp4"), recursive=True))
    return clips[:: max(1, len(clips) // VIDEOS)][:VIDEOS]
