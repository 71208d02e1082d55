"""The one reader of pictures and videos, on inputs of the kinds that people have, made here."""

from __future__ import annotations

import contextlib
import io
import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces import media
from fer_tf.faces.frame import ClipError, Limits
from tests.fer_tf.faces.clips import drawn, write_clip
from tests.fer_tf.faces.heic import heic
from tests.fer_tf.faces.test_video import STORED, dark_corner

PICTURE = drawn(1)[0]  # uint8 (96, 128, 3), its dark corner top left


def saved(kind: str, image: np.ndarray = PICTURE, **options: object) -> bytes:
    Image.fromarray(np.ascontiguousarray(image)).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def times_of(source: object) -> tuple[list[float], float]:
    """A clip's times and its length."""
    with contextlib.closing(media.open(source)) as clip:
        assert not clip.still
        times = [frame.time for frame in clip.frames()]
        clip.check_whole()
        return times, clip.duration


def refused(source: object, limits: Limits | None = None) -> ClipError:
    with pytest.raises(ClipError) as caught:
        file = media.open(source, limits)
        file.frame() if file.still else [*file.frames()]
    return caught.value


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "HEIC"])
def test_a_picture_is_told_by_its_content_and_not_by_its_name(kind: str, tmp_path: Path) -> None:
    content = heic([PICTURE], 1, 128, 96) if kind == "HEIC" else saved(kind)
    (tmp_path / "film.mp4").write_bytes(content)
    for source in (str(tmp_path / "film.mp4"), tmp_path / "film.mp4", content):
        file = media.open(source)
        assert file.still
        frame = file.frame()
        assert frame.rgb.dtype == np.uint8 and frame.shrink == 1
        assert np.abs(frame.rgb.astype(int) - PICTURE).mean() < 12
        file.close()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_a_moving_picture_is_a_clip_whose_frames_last_as_long_as_they_say(kind: str, tmp_path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in drawn(3)]
    first.save(file := io.BytesIO(), kind, save_all=True, append_images=others, duration=[100, 200, 4000])
    (tmp_path / "photo.jpg").write_bytes(file.getvalue())
    times, duration = times_of(str(tmp_path / "photo.jpg"))
    assert np.allclose(times, [0, 0.1, 0.3]) and abs(duration - 4.3) < 1e-6
    clip = media.open(file.getvalue())
    for _ in range(2):  # A clip that does not fit the decoder's cache is read twice.
        for frame, wanted in zip(clip.frames(), drawn(3), strict=True):
            assert np.abs(frame.frame().rgb.astype(int) - wanted).mean() < 12
        clip.rewind()
    assert media.open(saved(kind, PICTURE, **({"save_all": True} if kind != "PNG" else {}))).still


def test_a_photo_that_brings_a_second_jpeg_is_a_picture_and_many_jpegs_are_a_film(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(file := io.BytesIO(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert media.open(file.getvalue()).frame().rgb.shape == PICTURE.shape
    assert media.open(saved("JPEG") + b"\0\0ftypmp42 a motion photo's film").still
    (tmp_path / "a.jpg").write_bytes(b"".join(saved("JPEG", frame) for frame in drawn(5)))
    (tmp_path / "a.mjpeg").write_bytes((tmp_path / "a.jpg").read_bytes())
    assert len(times_of(tmp_path / "a.mjpeg")[0]) == 5


def tiles(image: np.ndarray, side: int) -> list[np.ndarray]:
    rows, columns = -(-image.shape[0] // side), -(-image.shape[1] // side)
    whole = np.pad(
        image, ((0, rows * side - image.shape[0]), (0, columns * side - image.shape[1]), (0, 0)), mode="edge"
    )
    return [whole[y * side : (y + 1) * side, x * side : (x + 1) * side] for y in range(rows) for x in range(columns)]


def test_a_heic_of_tiles_is_read_whole() -> None:
    image = drawn(1, 200, 320)[0]
    frame = media.open(heic(tiles(image, 128), 3, 320, 200)).frame()
    assert frame.rgb.shape == image.shape and np.abs(frame.rgb.astype(int) - image).mean() < 4


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_heif_is_turned_once_by_its_boxes_or_else_by_its_exif(turns: int) -> None:
    stored = np.ascontiguousarray(np.rot90(PICTURE, -turns))
    number = {1: 8, 2: 3, 3: 6}[turns]
    exif = orientation(number).tobytes().removeprefix(b"Exif\0\0")
    height, width = stored.shape[:2]
    avif = saved("AVIF", stored, exif=orientation(number))
    other_tag = Image.Exif()
    other_tag[0x0113] = number
    without = saved("AVIF", stored, exif=other_tag).replace(struct.pack("<H", 0x0113), struct.pack("<H", 0x0112))
    without = without.replace(struct.pack(">H", 0x0113), struct.pack(">H", 0x0112))
    assert b"irot" in avif and b"irot" not in without
    for content in (
        heic([stored], 1, width, height, irot=turns),
        heic([stored], 1, width, height, irot=turns, exif=exif),
        heic([stored], 1, width, height, exif=exif),
        avif,
        without,
    ):
        rgb = media.open(content).frame().rgb
        assert rgb.shape == PICTURE.shape and dark_corner(rgb) == "top left"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("number", [2, 6])
def test_exif_turns_pictures_of_every_format(kind: str, number: int) -> None:
    rgb = media.open(saved(kind, STORED[number](PICTURE), exif=orientation(number))).frame().rgb
    assert rgb.shape == PICTURE.shape and dark_corner(rgb) == "top left"


def test_a_damaged_exif_does_not_cost_the_picture() -> None:
    for exif in (
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x07\0\xff\xff\xff\xff",
        b"Exif\0\0",
    ):
        assert media.open(saved("JPEG", exif=exif)).frame().rgb.shape == PICTURE.shape


@pytest.mark.parametrize("number", [1, 3, 6, 8])
def test_side_data_that_pyav_does_not_know_does_not_end_a_clip_and_it_is_turned(number: int, tmp_path: Path) -> None:
    # FFmpeg gives the EXIF of a film's JPEGs as side data 31; PyAV 18.1 knows 27 kinds.
    stored = [saved("JPEG", STORED[number](frame), exif=orientation(number)) for frame in drawn(4)]
    height, width = STORED[number](PICTURE).shape[:2]
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for place, content in enumerate(stored):
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, place, place, Fraction(1, 25)
            container.mux(packet)
    frames = [frame.frame() for frame in media.open(tmp_path / "a.avi").frames()]
    assert len(frames) == 4
    assert frames[0].rgb.shape == PICTURE.shape and dark_corner(frames[0].rgb) == "top left"


def write_streams(path: Path, *streams: tuple[str, list[np.ndarray]], cover: bool = False) -> str:
    """A file of several video streams, each a codec and its frames; the first is only a cover if wanted."""
    with av.open(str(path), "w") as container:
        made = []
        for codec, frames in streams:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            made.append(stream)
        if cover:
            made[0].disposition = av.stream.Disposition.attached_pic
        for stream, (_, frames) in zip(made, streams, strict=True):
            for number, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return str(path)


def size_read(path: str) -> tuple[int, ...]:
    return next(media.open(path).frames()).frame().rgb.shape[:2]


def test_of_several_streams_the_largest_and_longest_is_the_film(tmp_path: Path) -> None:
    small, large, cover = drawn(12, 64, 64), drawn(10, 192, 256), drawn(1, 480, 640)
    assert size_read(write_streams(tmp_path / "a.mp4", ("libx264", small), ("libx264", large))) == (192, 256)
    assert size_read(write_streams(tmp_path / "b.mkv", ("libx264", large), ("libx264", small))) == (192, 256)
    assert size_read(write_streams(tmp_path / "c.mp4", ("libx264", drawn(2, 192, 256)), ("libx264", drawn(50)))) == (
        96,
        128,
    )
    with_cover = write_streams(tmp_path / "d.mp4", ("mjpeg", cover), ("libx264", small), cover=True)
    assert size_read(with_cover) == (64, 64)
    assert size_read(write_streams(tmp_path / "e.mkv", ("mjpeg", cover), ("libx264", small))) == (64, 64)


def test_covers_alone_are_no_film(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mp4", ("mjpeg", drawn(1)), cover=True)
    assert refused(path).reason == "not_a_video" and "cover" in refused(path).detail


def test_a_last_frame_that_is_held_belongs_to_the_clip(tmp_path: Path) -> None:
    times, duration = times_of(write_clip(tmp_path / "a.mp4", drawn(10), last_ms=8000))
    assert len(times) == 10 and abs(duration - 8.36) < 0.05
    times, duration = times_of(write_clip(tmp_path / "a.mkv", drawn(10), last_ms=8000))
    assert len(times) == 10


def test_a_clock_that_starts_anew_goes_on(tmp_path: Path) -> None:
    one = Path(write_clip(tmp_path / "a.ts", drawn(20), codec="mpeg2video")).read_bytes()
    late = [3_600_000 + 40 * number for number in range(20)]
    ahead = Path(write_clip(tmp_path / "b.ts", drawn(20), times_ms=late)).read_bytes()
    first = Path(write_clip(tmp_path / "c.ts", drawn(20))).read_bytes()
    for joined in (one + one, first + first, first + ahead, ahead + first, first * 3):
        times, duration = times_of(joined)
        steps = np.diff(times)
        count = len(times)
        assert count >= 38 and steps.min() >= 0 and steps.max() < 0.3
        assert abs(duration - 0.04 * count) < 0.3


def test_where_the_frame_size_changes_places_stay_in_one_unit(tmp_path: Path) -> None:
    small = Path(write_clip(tmp_path / "a.ts", drawn(10), codec="mpeg2video")).read_bytes()
    large = Path(write_clip(tmp_path / "b.ts", drawn(10, 192, 256), codec="mpeg2video")).read_bytes()
    for joined, sides in ((small + large, {128: 1.0, 256: 2.0}), (large + small, {256: 1.0, 128: 0.5})):
        frames = [frame.frame() for frame in media.open(joined).frames()]
        assert {frame.rgb.shape[1]: frame.shrink for frame in frames} == sides
    assert {frame.frame(64).shrink for frame in media.open(small + large).frames()} == {0.5}


def test_a_photo_may_be_larger_than_a_film_and_is_shrunk_while_decoded() -> None:
    large = np.repeat(np.repeat(PICTURE, 16, 0), 16, 1)
    limits = Limits(max_pixels=1000, max_picture_pixels=large.shape[0] * large.shape[1])
    still = media.open(saved("JPEG", large), limits)
    frame = still.frame(256)
    assert frame.rgb.shape == (192, 256, 3) and frame.shrink == 0.125
    assert still._image.size == (256, 192), "no more pixels were decoded than asked for"
    assert np.abs(frame.rgb[::2, ::2].astype(int) - PICTURE).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "AVIF"])
def test_a_decompression_bomb_is_refused_from_its_header_and_the_limit_told(kind: str) -> None:
    error = refused(saved(kind, np.zeros((600, 500, 3), np.uint8)), Limits(max_picture_pixels=299_999))
    assert error.reason == "too_large"
    assert "500 x 600" in error.detail and "`max_picture_pixels` allows 299,999" in error.detail


def test_the_limit_of_films_is_told_too(tmp_path: Path) -> None:
    error = refused(write_clip(tmp_path / "a.mp4", drawn(3)), Limits(max_pixels=100))
    assert error.reason == "too_large" and "`max_pixels` allows 100" in error.detail


@pytest.mark.parametrize("name", ["take:1.mp4", "http:a.mp4", "100%d.mp4", "clip [raw]*?.mp4", "-i.mp4", "a|b.mp4"])
def test_marks_in_a_files_name_mean_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", drawn(3))
    (tmp_path / "a.mp4").rename(tmp_path / name)
    (tmp_path / f"{name}.tga").write_bytes(cv2.imencode(".png", PICTURE)[1].tobytes())
    monkeypatch.chdir(tmp_path)
    assert len(times_of(name)[0]) == 3
    assert media.open(f"{name}.tga").still


def test_words_in_another_coding_do_not_cost_the_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["title"] = "Café"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for rgb in drawn(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / "a.mkv").read_bytes()
    assert "Café".encode() in content
    (tmp_path / "a.mkv").write_bytes(content.replace("Café".encode(), b"Caf\xe9 "))
    assert len(times_of(tmp_path / "a.mkv")[0]) == 3


def test_deep_pale_and_printed_pictures_keep_their_brightness(tmp_path: Path) -> None:
    grey = PICTURE[..., 0]
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "deep.tiff"), PICTURE.astype(np.uint16) * 257)
    Image.fromarray(PICTURE).quantize(64).save(tmp_path / "palette.tiff")
    Image.fromarray(PICTURE).convert("CMYK").save(tmp_path / "printed.jpg")
    Image.fromarray(np.dstack([PICTURE, np.full_like(grey, 128)])).save(tmp_path / "clear.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for path in sorted(tmp_path.iterdir()):
        rgb = media.open(path).frame().rgb
        assert rgb.shape == PICTURE.shape and np.abs(rgb.astype(int) - PICTURE).mean() < 6, path.name


def test_arrays_bytes_and_images_are_sources_and_others_are_named() -> None:
    for source in (PICTURE, PICTURE[..., 0], Image.fromarray(PICTURE), saved("PNG"), bytearray(saved("PNG"))):
        assert media.open(source).frame().rgb.shape == PICTURE.shape
    for wrong in (PICTURE.astype(np.float32), PICTURE[None], 7, None):
        with pytest.raises(InputError, match="Received"):
            media.open(wrong)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "git lfs pull"),
        (b"%PDF-1.7\n%", "a PDF"),
        (b"PK\x03\x04\x14", "a zip archive .*: unpack it"),
        (b"hello world\n" * 50, "^Invalid data found|^a picture that cannot be decoded"),
    ],
)
def test_what_comes_instead_of_a_picture_or_video_is_called_by_its_name(
    content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for source in (content, str(tmp_path / "a.jpg")):
        error = refused(source)
        assert error.reason == "not_a_video" and re.search(words, error.detail)


def test_broken_pictures_say_what_is_wrong(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        whole = saved(kind, noise)
        for share in (0.02, 0.5, 0.9):
            assert refused(whole[: int(len(whole) * share)]).reason in ("truncated", "not_a_video"), (kind, share)
    assert refused(heic([PICTURE], 1, 128, 96)[:-100]).reason in ("truncated", "not_a_video")
    assert refused(b"").reason == "empty_file"
    assert refused(str(tmp_path)).reason == "missing"


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_of_a_moving_picture_that_is_cut_off_what_came_before_counts(kind: str) -> None:
    noise = [Image.fromarray(rgb) for rgb in np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), np.uint8)]
    whole = io.BytesIO()
    noise[0].save(whole, kind, save_all=True, append_images=noise[1:], duration=80)
    cut = whole.getvalue()[: len(whole.getvalue()) * 2 // 3]
    with contextlib.closing(media.open(cut)) as clip:
        assert 2 <= len(list(clip.frames())) < 6 and clip.corrupt == 1


def test_an_icon_is_a_picture() -> None:
    icon = io.BytesIO()
    Image.fromarray(PICTURE).resize((64, 64)).save(icon, "ICO", sizes=[(64, 64)])
    assert media.open(icon.getvalue()).still


def test_a_list_of_other_files_shows_none_of_them(tmp_path: Path) -> None:
    write_clip(tmp_path / "private.ts", drawn(5))
    lists = {
        "handed_in.mp4": "ffconcat version 1.0\nfile private.ts\n",
        "handed_in.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nprivate.ts\n#EXT-X-ENDLIST\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        error = refused(str(tmp_path / name))
        assert error.reason == "not_a_video" and "list of other files" in error.detail


def test_records_are_decoded_by_one_function() -> None:
    assert np.array_equal(media.decode(saved("PNG")), PICTURE)
    assert media.decode(saved("PNG"), 1).shape == PICTURE.shape[:2]
    for wrong in (b"", b"<html>"):
        with pytest.raises(InputError, match="cannot be decoded"):
            media.decode(wrong)


def test_pixels_are_coded_as_opencv_codes_them(samples: Path) -> None:
    bgr = cv2.imread(str(samples / "photo.jpg"))
    rgb, grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    for quality, encoded in ((95, media.encode_jpeg(rgb)), (80, media.encode_jpeg(rgb, 80))):
        assert encoded == cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    for pixels, image in ((rgb, bgr), (grey, grey)):
        assert media.encode_png(pixels) == cv2.imencode(".png", image)[1].tobytes()
        assert np.array_equal(media.decode(media.encode_png(pixels), 3 if pixels is rgb else 1), pixels)
