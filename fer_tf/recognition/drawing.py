"""Draws boxes, names and bars on pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from fer_tf.recognition.server import Answer

FONT = cv2.FONT_HERSHEY_SIMPLEX
INK, PAPER = (255, 255, 255), (24, 24, 24)


def colour_of(track: int) -> tuple[int, int, int]:
    """A clear RGB colour per face; neighbours in number are far apart in hue."""
    hue = (0.33 + 0.618 * (track - 1)) % 1.0
    return tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.75, 0.95))


def annotate(image: np.ndarray, faces: Sequence[tuple[int, np.ndarray, Answer]], top: int = 3) -> np.ndarray:
    """Returns the picture with each face's box and its best expressions as bars.

    Args:
      image: uint8 (H, W, 3), RGB.
      faces: number, box (x, y, width, height in pixels) and answer of each face.
      top: how many expressions to show.
    """
    picture = image.copy()
    for number, box, _ in faces:
        x, y, width, height = (round(float(value)) for value in box)
        line = max(2, round(min(image.shape[:2]) / 250))
        cv2.rectangle(picture, (x, y), (x + width, y + height), colour_of(number), line, cv2.LINE_AA)
    for number, box, answer in faces:
        _panel(picture, number, box, answer.best(top))
    return picture


def _panel(picture: np.ndarray, number: int, box: np.ndarray, best: list[tuple[str, float]]) -> None:
    """Bars under the box, or over it where there is no room below."""
    x, y, width, height = (float(value) for value in box)
    scale = max(float(np.clip(width / 200, 0.8, 1.6)), min(picture.shape[:2]) / 1200)
    row = round(26 * scale)
    wide = max(round(width), max(_text_width(_row_text(*entry), scale) for entry in best) + round(16 * scale))
    wide, tall = min(wide, picture.shape[1]), row * len(best) + round(6 * scale)
    left = int(np.clip(x, 0, picture.shape[1] - wide))
    upper = y + height + 2
    if upper + tall > picture.shape[0]:
        upper = y - tall - 2 if y - tall - 2 >= 0 else picture.shape[0] - tall
    upper = int(max(upper, 0))
    area = picture[upper : upper + tall, left : left + wide]
    area[:] = (0.35 * area + 0.65 * np.array(PAPER)).astype(np.uint8)
    colour = colour_of(number)
    for index, (name, probability) in enumerate(best):
        base = upper + round(3 * scale) + index * row
        end = left + round(wide * probability)
        if end > left:
            bar = picture[base + 2 : base + row - 2, left:end]
            bar[:] = (0.45 * bar + 0.55 * np.array(colour)).astype(np.uint8)
        cv2.putText(
            picture,
            _row_text(name, probability),
            (left + round(6 * scale), base + round(0.72 * row)),
            FONT,
            0.55 * scale,
            INK,
            max(1, round(1.2 * scale)),
            cv2.LINE_AA,
        )


def _row_text(name: str, probability: float) -> str:
    return f"{name} {100 * probability:.0f}%"


def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, FONT, 0.55 * scale, max(1, round(1.2 * scale)))[0][0]
