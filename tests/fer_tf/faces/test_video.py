"""The decoder in its own process, on clips encoded here: good, odd and broken."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fer_tf.faces import media
from fer_tf.faces.frame import ClipError, Limits
from fer_tf.faces.video import Decoder, ahead
from tests.fer_tf.faces.clips import all_of, drawn, reason_of, write_clip


def dark_corner(rgb: np.ndarray) -> str:
    """Where the drawn frames' dark corner lies."""
    height, width = rgb.shape[:2]
    h, w = height // 4, width // 4
    corners = {"top left": rgb[:h, :w], "top right": rgb[:h, -w:]}
    corners |= {"bottom left": rgb[-h:, :w], "bottom right": rgb[-h:, -w:]}
    return min(corners, key=lambda name: corners[name].mean())


def test_frames_come_in_order_with_their_numbers_and_times(decoder: Decoder, tmp_path: Path) -> None:
    frames, end = all_of(decoder, write_clip(tmp_path / "a.mp4", drawn(10)))
    assert [frame.index for frame in frames] == list(range(10))
    assert np.allclose([frame.time for frame in frames], np.arange(10) * 0.04, atol=1e-3)
    assert end.decoded == end.kept == 10 and end.corrupt == 0 and abs(end.duration - 0.4) < 0.02
    for frame, source in zip(frames, drawn(10), strict=True):
        assert frame.rgb.shape == (96, 128, 3)
        assert np.abs(frame.rgb.astype(int) - source).mean() < 6


def test_a_variable_frame_rate_keeps_each_frames_own_time(decoder: Decoder, tmp_path: Path) -> None:
    times = [0, 10, 20, 30, 500, 1000, 2000, 2010]
    frames, end = all_of(decoder, write_clip(tmp_path / "a.mp4", drawn(8), times_ms=times))
    assert np.allclose([frame.time for frame in frames], np.array(times) / 1000, atol=2e-3)
    assert end.duration >= 2.01


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_clip_comes_upright(decoder: Decoder, tmp_path: Path, rotation: int) -> None:
    # A player turns the picture counterclockwise by the noted angle: store it turned clockwise.
    stored = [np.rot90(frame, -rotation // 90) for frame in drawn(3)]
    frames, _ = all_of(decoder, write_clip(tmp_path / "a.mp4", stored, rotation=rotation))
    assert frames[0].rgb.shape == (96, 128, 3)
    assert dark_corner(frames[0].rgb) == "top left"


# What a camera stores that notes each EXIF orientation, from the upright picture.
STORED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: np.rot90(image, 2),
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(image.transpose(1, 0, 2), 2),
    8: lambda image: np.rot90(image, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_an_image_is_turned_as_its_exif_says(decoder: Decoder, tmp_path: Path, orientation: int) -> None:
    from PIL import Image

    upright = drawn(1)[0]
    stored = STORED[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    frames, end = all_of(decoder, str(tmp_path / "a.jpg"))
    assert end.decoded == 1 and frames[0].rgb.shape == upright.shape
    assert dark_corner(frames[0].rgb) == "top left"


@pytest.mark.parametrize("place", [0, 15, 29])
def test_one_bright_or_black_frame_does_not_cost_the_others(decoder: Decoder, tmp_path: Path, place: int) -> None:
    clean = drawn(30)
    kept = {frame.index for frame in all_of(decoder, write_clip(tmp_path / "a.mp4", clean), "apex")[0]} - {place}
    for level in (0, 255):
        flashed = [np.full_like(frame, level) if number == place else frame for number, frame in enumerate(clean)]
        path = write_clip(tmp_path / "b.mp4", flashed)
        found = {frame.index for frame in all_of(decoder, path, "apex")[0]}
        assert place not in found and len(found ^ kept) <= 3


def test_one_frame_is_a_clip(decoder: Decoder, tmp_path: Path) -> None:
    frames, end = all_of(decoder, write_clip(tmp_path / "a.mp4", drawn(1)), "apex")
    assert len(frames) == 1 and end.decoded == 1


def test_8k_frames_are_decoded_and_shrunk(decoder: Decoder, tmp_path: Path) -> None:
    big = np.zeros((4320, 7680, 3), np.uint8)
    big[:1000, :1000] = 200
    frames, end = all_of(decoder, write_clip(tmp_path / "a.avi", [big], codec="mjpeg"))
    assert end.decoded == 1 and frames[0].rgb.shape == (1080, 1920, 3) and frames[0].shrink == 0.25
    assert frames[0].rgb[100, 100].min() > 150


def answered(monkeypatch: pytest.MonkeyPatch, path: str, **limits: int) -> tuple[list[int], bytes, int]:
    """The numbers of the frames that a decoder with other limits keeps, its whole answer, and how often it decoded."""
    import io

    from fer_tf.faces import decoder as process

    passes = []
    rewind = media.Clip.rewind
    monkeypatch.setattr(media.Clip, "rewind", lambda clip: (passes.append(clip), rewind(clip)))
    for name, value in limits.items():
        monkeypatch.setattr(process, name, value)
    request = {"path": path, "rule": "apex", "limit": 8, "max_side": 1920}
    process.answer(request | {"max_pixels": 10**8, "max_picture_pixels": 10**8}, out := io.BytesIO())
    numbers = [int(number) for number in re.findall(rb'"index": (\d+)', out.getvalue())]
    return numbers, out.getvalue(), 1 + len(passes)


def test_a_clip_with_frames_too_large_to_wait_is_decoded_twice_to_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(30))
    numbers, answer, passes = answered(monkeypatch, path)
    assert passes == 1 and len(numbers) == 8
    assert answered(monkeypatch, path, WAITING_BYTES=1, MOST_WAITING_BYTES=1) == (numbers, answer, 2)


def test_of_a_long_clip_few_frames_wait_and_it_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(150))
    exact, _, _ = answered(monkeypatch, path)
    few, answer, passes = answered(monkeypatch, path, WAITING_BYTES=1)
    assert passes == 1 and len(few) == len(exact) == 8 and len(answer) > 8 * 96 * 128 * 3
    # As far from rest, and as evenly in time.
    assert np.mean(few) > np.mean(exact) - 10 and np.diff(few).max() <= np.diff(exact).max() + 10


def test_broken_files_say_what_is_wrong_and_the_next_clip_is_decoded(decoder: Decoder, tmp_path: Path) -> None:
    # Noise, so that the file is nearly all pictures and a cut leaves more than half of them whole.
    noise = np.random.default_rng(0).integers(0, 255, (30, 96, 128, 3), np.uint8)
    good = write_clip(tmp_path / "good.mp4", list(noise), index_first=True)
    whole = Path(good).read_bytes()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("video,person\na.mp4,P001\n")
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    late_index = Path(write_clip(tmp_path / "late.mp4", drawn(30))).read_bytes()
    (tmp_path / "no_index.mp4").write_bytes(late_index[: len(late_index) // 2])
    (tmp_path / "noise.jpg").write_bytes(bytes(range(256)) * 20)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    picture = cv2.imencode(".png", drawn(1)[0])[1].tobytes()
    (tmp_path / "half.png").write_bytes(picture[:40])
    expected = {
        "missing.mp4": "missing",
        "pipe.mp4": "missing",
        "playlist.mp4": "not_a_video",
        "empty.mp4": "empty_file",
        "text.mp4": "not_a_video",
        "half.mp4": "truncated",
        "no_index.mp4": "truncated",
        "noise.jpg": "not_a_video",
        "half.png": "not_a_video",
    }
    assert {name: reason_of(decoder, str(tmp_path / name)) for name in expected} == expected
    assert all_of(decoder, good)[1].decoded == 30


def test_frames_above_the_bound_are_refused(tmp_path: Path) -> None:
    decoder = Decoder(timeout_s=60.0, limits=Limits(96 * 128 - 1), max_side=1920)
    assert reason_of(decoder, write_clip(tmp_path / "a.mp4", drawn(3))) == "too_large"
    decoder.close()


def test_of_frames_one_by_one_those_are_converted_that_are_asked_for(decoder: Decoder, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(10))
    with contextlib.closing(media.open(path)) as clip:
        expected = [seen.frame(100) for seen in clip.frames()]
    decoder.max_side = 100
    got = {}
    for told in decoder.frames(path, 4000):
        assert (told.number, told.still) == (len(got), False) and told.seconds == pytest.approx(0.4, abs=0.02)
        assert told.time == pytest.approx(told.number * 0.04, abs=1e-3)
        got[told.number] = told.frame() if told.number % 3 == 0 else None
    assert [number for number, frame in got.items() if frame] == [0, 3, 6, 9] and len(got) == 10
    for frame in filter(None, got.values()):
        np.testing.assert_array_equal(frame.rgb, expected[frame.index].rgb)
        assert frame.shrink == expected[frame.index].shrink == 100 / 128 and frame.time == expected[frame.index].time
    # Nobody who stops early leaves anything to the next, or costs it another process.
    process = decoder.pid
    for asks in (True, False):
        for count in (1, 10):
            frames = decoder.frames(path, 4000)
            for _ in range(count):
                told = next(frames)
                if asks:
                    told.frame()
            frames.close()
            assert len(list(decoder.frames(path, 4000))) == 10 and all_of(decoder, path)[1].decoded == 10
    assert decoder.pid == process
    # A frame that was told before, or made already, is no longer there.
    frames = decoder.frames(path, 4000)
    first, second = next(frames), next(frames)
    second.frame()
    for gone in (first, second):
        with pytest.raises(RuntimeError, match="made once, before the next"):
            gone.frame()
    frames.close()


def test_a_picture_that_only_ffmpeg_reads_is_one_frame_and_shrunk_as_pictures_are(
    decoder: Decoder, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.dpx")
    encoder = av.CodecContext.create("dpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 128, 96, "rgb24"
    encoder.time_base = Fraction(1, 25)
    picture = av.VideoFrame.from_ndarray(drawn(1)[0], "rgb24")
    Path(path).write_bytes(b"".join(bytes(packet) for packet in encoder.encode(picture)))
    assert media.open_picture(path, Limits()) is None
    ((told, frame),) = [(told, told.frame()) for told in decoder.frames(path, 64)]
    assert told.still and frame.rgb.shape == (48, 64, 3)


def test_reading_ahead_hands_on_the_items_and_the_error() -> None:
    def items():
        yield from range(5)
        raise ClipError("no_frames", "a.mp4")

    got = []
    with pytest.raises(ClipError, match="no frames"):
        for item in ahead(items(), 2, cancel=lambda: None):
            got.append(item)
    assert got == list(range(5))


def test_clip_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(ClipError("truncated", "a.mp4", "0.2 s of 1 s")))
    assert (error.reason, error.path, error.detail) == ("truncated", "a.mp4", "0.2 s of 1 s")
