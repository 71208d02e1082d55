"""Pictures of more than 8 bits, and files that hold more than one picture."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_tf.faces import media
from tests.fer_tf.faces.test_media import PICTURE, saved


def deep_picture(bits: int, grey: bool) -> np.ndarray:
    """uint16: the picture as a camera of so many bits stores it."""
    top = (1 << bits) - 1
    image = (PICTURE.astype(float) / PICTURE.max() * top).round().astype(np.uint16)
    return image[..., 1] if grey else image


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_cameras_of_10_to_16_bits_give_the_picture_that_8_bits_give(
    bits: int, grey: bool, kind: str, tmp_path: Path
) -> None:
    deep = deep_picture(bits, grey)
    content = cv2.imencode(kind, deep if grey else deep[..., ::-1])[1].tobytes()
    (tmp_path / "a").write_bytes(content)
    expected = deep / ((1 << bits) - 1) * 255
    for source in (content, str(tmp_path / "a")):
        rgb = media.open(source).frame().rgb.astype(float)
        assert np.abs(rgb - (expected[..., None] if grey else expected)).max() <= 0.51


@pytest.mark.parametrize("top", [1.0, 255.0, 4095.0, 65535.0])
def test_float_pictures_are_as_bright_as_their_own_white(top: float) -> None:
    grey = PICTURE[..., 1] / PICTURE.max()
    stored = (grey * top).astype(np.float32)
    stored[0, 0] = np.nan
    rgb = media.open(saved("TIFF", stored)).frame().rgb
    assert np.abs(rgb[1:, 1:, 0] - grey[1:, 1:] * 255).max() <= 0.51 and not rgb[0, 0].any()


def tiff_of(*pages: tuple[np.ndarray, int]) -> bytes:
    """A TIFF of pages with their NewSubfileType."""
    images = []
    for pixels, kind in pages:
        images.append(Image.fromarray(np.ascontiguousarray(pixels)))
        images[-1].encoderinfo = {"tiffinfo": {254: kind}}
    kinds = {254: pages[0][1]}
    images[0].save(file := io.BytesIO(), "TIFF", save_all=True, append_images=images[1:], tiffinfo=kinds)
    return file.getvalue()


def test_a_tiffs_thumbnail_is_not_taken_for_the_picture(tmp_path: Path) -> None:
    small, middle = PICTURE[::4, ::4], PICTURE[::2, ::2]
    for pages, shape, note in (
        ([(small, 1), (PICTURE, 0)], PICTURE.shape, None),
        ([(small, 1), (middle, 0), (PICTURE, 0), (small, 1)], PICTURE.shape, ("other_pages", "the largest of 2")),
        ([(PICTURE, 0), (small, 1)], PICTURE.shape, None),
        # Pages of a document: the first, as ever.
        ([(small, 0), (PICTURE, 0)], small.shape, ("other_pages", "the first of 2")),
        ([(small, 1), (middle, 1)], middle.shape, ("preview", "only a preview of 64 x 48")),
    ):
        (tmp_path / "a.tif").write_bytes(tiff_of(*pages))
        for source in (tiff_of(*pages), str(tmp_path / "a.tif")):
            file = media.open(source)
            rgb = file.frame().rgb
            assert rgb.shape == shape and (file.note is None) == (note is None)
            np.testing.assert_array_equal(rgb, next(page for page, _ in pages if page.shape == shape))
            assert note is None or (file.note[0] == note[0] and file.note[1].startswith(note[1]))


@pytest.mark.parametrize("turns", [1, 6])
def test_a_raw_files_picture_lies_below_its_preview(turns: int, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    for kinds, size, note in (((0,), PICTURE.shape[:2], None), ((1,), PICTURE.shape[:2], "preview")):
        with tifffile.TiffWriter(tmp_path / "a.dng") as file:
            tags = [(0x0112, 3, 1, turns, True)]
            file.write(PICTURE[::4, ::4], photometric="rgb", subfiletype=1, subifds=2, extratags=tags)
            # What the sensor saw, which Pillow cannot read, and a picture of the whole size.
            file.write(PICTURE[..., 0].astype(np.uint16), photometric=32803, subfiletype=0)
            file.write(PICTURE, photometric="rgb", subfiletype=kinds[0])
        found = media.open(str(tmp_path / "a.dng"))
        rgb = found.frame().rgb
        assert rgb.shape[:2] == (size if turns == 1 else size[::-1]) and (found.note and found.note[0]) == note
