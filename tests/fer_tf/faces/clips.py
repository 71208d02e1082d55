"""Clips made in code, the sample clips' frames, and what a decoder makes of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fer_tf.faces.frame import ClipError, Frame
from fer_tf.faces.video import ClipEnd, Decoder


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    times_ms: Sequence[int] = (),
    last_ms: int = 40,
    rotation: int = 0,
    codec: str = "libx264",
    index_first: bool = False,
) -> str:
    """Encodes uint8 RGB frames, 40 ms apart or at the given times, the last one lasting `last_ms`.

    `rotation`, in degrees, is only noted in the file.
    """
    options = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000 if codec == "libx264" else 25)
        if codec == "libx264":
            stream.codec_context.options = {"preset": "ultrafast", "crf": "16", "bf": "0"}
        if rotation:
            stream.set_display_rotation(rotation)
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            if codec == "libx264":
                frame.pts = times_ms[number] if times_ms else 40 * number
                frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        for packet in stream.encode():
            packet.duration = int(last_ms / 1000 / packet.time_base)
            container.mux(packet)
    return str(path)


def read_frames(path: Path) -> list[np.ndarray]:
    """Every frame of a clip as stored, uint8 RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def drawn(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """Frames with a dark corner top left and a bright bar that moves to the right."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), 120, np.uint8)
        frame[: height // 3, : width // 3] = 20
        x = int((width - 16) * (number + 1) / (count + 1))
        frame[height // 2 :, x : x + 16] = 250
        frames.append(frame)
    return frames


def all_of(decoder: Decoder, path: str, rule: str = "uniform", limit: int = 40) -> tuple[list[Frame], ClipEnd]:
    *frames, end = decoder.keyframes(path, rule, limit)
    return frames, end


def reason_of(decoder: Decoder, path: str) -> str:
    with pytest.raises(ClipError) as caught:
        all_of(decoder, path)
    assert path in str(caught.value)
    return caught.value.reason
