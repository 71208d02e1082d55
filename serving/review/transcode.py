"""A process of its own that looks at clips and makes them playable: `python -m serving.review.transcode`.

A damaged file may hang or crash a decoder; here it takes nothing with it. One request is one JSON line on standard
input: `source`, `target` and `form`. Answers are JSON lines too: any number of `progress`, then `own` (a browser plays
the clip as it is), `end` (the copy is complete) or `error`, with `passing` where the machine is to blame, not the file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from fractions import Fraction
from typing import Any

import av

from fer_tf.faces import media
from fer_tf.faces.child import confine, leave_with_parent
from fer_tf.faces.clips import display_matrix
from fer_tf.faces.frame import ClipError

# Larger frames are of no use on a page.
MAX_SIDE = 1280
SAY_SECONDS = 0.3
# Fine enough for every frame rate: frames keep their own times.
TIME_BASE = Fraction(1, 90000)
ENCODERS = {
    "mp4": ("libx264", {"crf": "20", "preset": "veryfast", "movflags": "+faststart"}),
    "webm": ("libvpx", {"crf": "10", "b": "4M", "deadline": "good", "cpu-used": "5"}),
}
# What the browsers of computers, tablets and phones play: H.264 in 8 bit 4:2:0, and the codecs of WebM.
MP4_PROFILES = ("Baseline", "Constrained Baseline", "Main", "High")
# What a write may meet that another time it does not; what the source itself has is a ClipError.
OF_THE_MACHINE = {errno.ENOENT, errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
OF_THE_MACHINE |= {errno.ENOMEM, errno.EMFILE, errno.ENFILE}
WEBM_CODECS = ("vp8", "vp9", "av1", "libdav1d")


def say(**message: Any) -> None:
    """Tells the server a step."""
    print(json.dumps(message), flush=True)


def answer(source: str, target: str, form: str) -> None:
    """Says that a browser plays the clip, or writes a copy: an image as JPEG, a video in the form.

    Args:
      source: any file that the project reads.
      target: the copy's path without its suffix.
      form: mp4 or webm; empty for the clip itself where a browser plays it.

    Raises:
      ClipError: the source cannot be decoded.
    """
    with contextlib.closing(media.open(source)) as file:
        if file.still:
            # Also what a browser shows itself: a photo's notes may tell of person and place.
            write_still(file.frame(MAX_SIDE).rgb, f"{target}.jpg")
            return say(kind="end", suffix=".jpg")
        own = "" if form else browser_type(source, file)
        if own:
            return say(kind="own", type=own)
        form = form or "mp4"
        write_video(file, f"{target}.{form}", form)
        return say(kind="end", suffix=f".{form}")


def browser_type(path: str, clip: media.Clip) -> str:
    """Returns the media type of a video that every browser plays as the decoder reads it; empty for others."""
    first = next(clip.frames(), None)
    clip.rewind()
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            (stream,) = container.streams.video
            context, name = stream.codec_context, container.format.name
            codec, plain, profile = context.name, context.pix_fmt == "yuv420p", context.profile
    except (av.error.FFmpegError, ValueError):
        # Moving pictures, and several streams: browsers choose among these by rules of their own.
        return ""
    # Browsers turn, but do not mirror.
    if not plain or first is None or display_matrix(first.image) is not None:
        return ""
    if "mp4" in name and codec == "h264" and profile in MP4_PROFILES:
        return "video/mp4"
    # The same reader opens Matroska, which not every browser plays.
    return "video/webm" if "webm" in name and path.lower().endswith(".webm") and codec in WEBM_CODECS else ""


def write_still(rgb: Any, target: str) -> None:
    """Writes an image as JPEG."""
    with open(target, "wb") as file:
        file.write(media.encode_jpeg(rgb, 92))


def write_video(clip: media.Clip, target: str, form: str) -> None:
    """Writes a video as H.264 in MP4 or VP8 in WebM, upright and without sound."""
    encoder, options = ENCODERS[form]
    stream, last, said = None, -1, 0.0
    with av.open(target, "w", format=form) as out:
        for seen in clip.frames():
            rgb = seen.frame(MAX_SIDE).rgb
            if stream is None:
                # 4:2:0 wants even sides.
                height, width = (max(2, side - side % 2) for side in rgb.shape[:2])
                stream = out.add_stream(encoder, rate=30, options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                # Several clips are copied at once; threads of one libvpx wait for each other, at ten times the cost.
                stream.codec_context.thread_count = 1
                stream.codec_context.time_base = TIME_BASE
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(width, height, "yuv420p")
            last = max(last + 1, round(seen.time / TIME_BASE))
            picture.pts, picture.time_base = last, TIME_BASE
            out.mux(stream.encode(picture))
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                say(kind="progress", share=min(0.99, seen.time / clip.declared) if clip.declared else None)
        if stream is None:
            raise ClipError("no_frames", clip.path, "no frame could be decoded")
        out.mux(stream.encode())
    clip.check_whole()


def main() -> int:
    """Answers requests until standard input closes."""
    confine()
    leave_with_parent()
    os.nice(5)
    av.logging.set_level(av.logging.PANIC)
    for line in sys.stdin:
        try:
            answer(**json.loads(line))
        except ClipError as error:
            say(kind="error", problem=f"{error.reason.replace('_', ' ')} ({error.detail})")
        except Exception as error:
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in OF_THE_MACHINE:
                # Without the path, which is nobody's business.
                reason = getattr(error, "strerror", None) or "not enough memory"
                say(kind="error", problem=reason, passing=True)
                continue
            # Whatever a broken file makes the codecs raise is that file's error.
            say(kind="error", problem=f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
