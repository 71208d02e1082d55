"""Draws boxes, names and bars on pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from fer_tf.faces.boxes import shared
from fer_tf.recognition.server import Answer

FONT = cv2.FONT_HERSHEY_SIMPLEX
INK, PAPER, GREY = (255, 255, 255), (24, 24, 24), (128, 128, 128)


def colour_of(track: int) -> tuple[int, int, int]:
    """A clear RGB colour per face; neighbours in number are far apart in hue."""
    hue = (0.33 + 0.618 * (track - 1)) % 1.0
    return tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.75, 0.95))


def annotate(image: np.ndarray, faces: Sequence[tuple[int, np.ndarray, Answer]], top: int = 3) -> np.ndarray:
    """Returns the picture with each face's box and its best expressions as bars; unsure ones are grey and say so.

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
        _tag(picture, number, x, y, width)
    boxes = [np.asarray(box, np.float64) for _, box, _ in faces]
    taken: list[np.ndarray] = []
    for number, box, answer in faces:
        taken.append(_panel(picture, number, box, _rows(answer, top), boxes, taken, answer.unsure))
    return picture


def _largest_scale(picture: np.ndarray) -> float:
    """The largest writing: what is large in a small picture is too small to read in a photo of many megapixels."""
    return max(1.6, min(picture.shape[:2]) / 700)


def _tag(picture: np.ndarray, number: int, x: int, y: int, wide: int) -> None:
    """The face's number in the corner of its box."""
    scale = float(np.clip(wide / 160, 0.5, _largest_scale(picture)))
    thick = max(2, round(1.2 * scale))
    (width, height), below = cv2.getTextSize(str(number), FONT, scale, thick)
    left, upper, edge = max(x, 0), max(y, 0), max(4, round(3 * scale))
    right, lower = left + width + 2 * edge, upper + height + below + edge
    cv2.rectangle(picture, (left, upper), (right, lower), colour_of(number), -1)
    cv2.putText(picture, str(number), (left + edge, upper + height + edge), FONT, scale, PAPER, thick, cv2.LINE_AA)


def _panel(
    picture: np.ndarray,
    number: int,
    box: np.ndarray,
    best: list[tuple[str, float]],
    boxes: Sequence[np.ndarray],
    taken: Sequence[np.ndarray],
    unsure: bool,
) -> np.ndarray:
    """Draws bars beside a face, off all faces and other bars where there is room, and returns their place."""
    height, width = picture.shape[:2]
    scale = max(float(np.clip(box[2] / 200, 0.8, _largest_scale(picture))), min(height, width) / 1200)
    row = round(26 * scale)
    wide = max(round(float(box[2])), max(_text_width(_row_text(*entry), scale) for entry in best) + round(16 * scale))
    wide, tall = min(wide, width), min(row * len(best) + round(6 * scale), height)
    left, upper = (round(float(value)) for value in place_beside(box, (wide, tall), (width, height), boxes, taken))
    area = picture[upper : upper + tall, left : left + wide]
    area[:] = (0.35 * area + 0.65 * np.array(PAPER)).astype(np.uint8)
    colour = GREY if unsure else colour_of(number)
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
    return np.array([left, upper, wide, tall], np.float64)


def place_beside(
    box: np.ndarray,
    size: tuple[int, int],
    picture: tuple[int, int],
    boxes: Sequence[np.ndarray],
    taken: Sequence[np.ndarray] = (),
) -> tuple[float, float]:
    """Returns where a face's label goes: under the face, over it, beside it, or where it hides the least.

    Args:
      box: the face, x, y, width, height in pixels.
      size: the label's width and height.
      picture: the picture's width and height.
      boxes: all faces, none of which should be hidden.
      taken: the labels that are drawn already.
    """
    (wide, tall), (x, y, width, height) = size, box
    middle = y + (height - tall) / 2
    right, bottom = picture[0] - wide, picture[1] - tall
    beside = [(x, y + height + 2), (x, y - tall - 2), (x + width + 2, middle), (x - wide - 2, middle)]
    corners = [(0, bottom), (right, bottom), (0, 0), (right, 0)]
    inside = [
        (min(max(left, 0), max(right, 0)), min(max(upper, 0), max(bottom, 0))) for left, upper in beside + corners
    ]

    def hidden(place: tuple[float, float]) -> float:
        label = np.array([*place, wide, tall])
        # Eyes and mouth matter; the brow and the outline may be covered where there is no other room.
        faces = sum(shared(label, _inner(other)) for other in boxes)
        # Far from its face a label may be taken for another's.
        far = np.hypot(place[0] + wide / 2 - x - width / 2, place[1] + tall / 2 - y - height / 2)
        return 10 * faces + sum(shared(label, other) for other in taken) + 0.01 * wide * tall * far / max(width, height)

    # The first of equals: under the face, where there is room.
    tidy = [place for place, wanted in zip(inside, beside, strict=False) if abs(place[1] - wanted[1]) < 1]
    free = [place for place in tidy if hidden(place) < 0.05 * wide * tall]
    return free[0] if free else min(inside, key=hidden)


def _inner(box: np.ndarray) -> np.ndarray:
    """The part of a face's box from the eyes to the chin."""
    x, y, width, height = box
    return np.array([x + 0.08 * width, y + 0.25 * height, 0.84 * width, 0.75 * height])


def _rows(answer: Answer, top: int) -> list[tuple[str, float]]:
    (name, probability), *others = answer.best(top)
    return [(f"unsure: {name}" if answer.unsure else name, probability), *others]


def _row_text(name: str, probability: float) -> str:
    return f"{name} {100 * probability:.0f}%"


def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, FONT, 0.55 * scale, max(1, round(1.2 * scale)))[0][0]
