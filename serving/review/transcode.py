"""A process of its own that makes one clip playable: `python -m serving.review.transcode SOURCE TARGET FORM`.

A damaged file may hang or crash a decoder; here it takes nothing with it. It prints one JSON line a step: `kind` and
the share done, then the end or the reason why not.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from fractions import Fraction
from typing import Any

import av

from fer_tf.faces import decoder

# Larger frames are of no use on a page.
MAX_SIDE = 1280
SAY_SECONDS = 0.3
# Fine enough for every frame rate: frames keep their own times.
TIME_BASE = Fraction(1, 90000)
ENCODERS = {
    "mp4": ("libx264", {"crf": "20", "preset": "veryfast", "movflags": "+faststart"}),
    "webm": ("libvpx", {"crf": "10", "b": "4M", "deadline": "realtime", "cpu-used": "4"}),
}


def say(**message: Any) -> None:
    """Tells the server a step."""
    print(json.dumps(message), flush=True)


def transcode(source: str, target: str, form: str, max_pixels: int) -> None:
    """Writes a clip as H.264 in MP4 or VP8 in WebM, upright, without sound, or an image as JPEG.

    Args:
      source: any file that the decoder reads.
      target: the file to write.
      form: mp4, webm or jpg.
      max_pixels: frames with more pixels are refused.

    Raises:
      decoder.Failure: the source cannot be decoded.
    """
    with contextlib.closing(decoder.Clip(source, max_pixels)) as clip:
        if form == "jpg":
            _write_still(decoder.read_still(source), target)
        else:
            _write_video(clip, target, form)


def _write_still(rgb: Any, target: str) -> None:
    import cv2

    shrink = min(1.0, MAX_SIDE / max(rgb.shape[:2]))
    if shrink < 1:
        rgb = cv2.resize(
            rgb, (round(rgb.shape[1] * shrink), round(rgb.shape[0] * shrink)), interpolation=cv2.INTER_AREA
        )
    with open(target, "wb") as file:
        file.write(cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())


def _write_video(clip: decoder.Clip, target: str, form: str) -> None:
    encoder, options = ENCODERS[form]
    stream, last, said = None, -1, 0.0
    with av.open(target, "w", format=form) as out:
        for _, at, frame in clip.frames():
            rgb, _ = decoder.rgb_of(frame, MAX_SIDE, clip.aspect)
            if stream is None:
                # 4:2:0 wants even sides.
                height, width = (max(2, side - side % 2) for side in rgb.shape[:2])
                stream = out.add_stream(encoder, rate=30, options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = TIME_BASE
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(width, height, "yuv420p")
            last = max(last + 1, round(at / TIME_BASE))
            picture.pts, picture.time_base = last, TIME_BASE
            out.mux(stream.encode(picture))
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                say(kind="progress", share=min(0.99, at / clip.declared) if clip.declared else None)
        if stream is None:
            raise decoder.Failure("no_frames", "no frame could be decoded")
        out.mux(stream.encode())


def main(argv: list[str]) -> int:
    """Transcodes one clip; says why when it cannot."""
    source, target, form, max_pixels = argv
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (decoder.MEMORY_BYTES, limit))
    av.logging.set_level(av.logging.PANIC)
    os.nice(5)
    try:
        transcode(source, target, form, int(max_pixels))
    except decoder.Failure as failure:
        say(kind="error", reason=failure.reason, detail=failure.detail)
    except Exception as error:  # Whatever a broken file makes the codecs raise is that file's error.
        say(kind="error", reason="not_a_video", detail=f"{type(error).__name__}: {error}")
    else:
        say(kind="end")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
