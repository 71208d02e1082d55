"""MTCNN (the paper's [36]) with the `mtcnn` package's weights: the same three networks, fewer and larger calls.

The package walks through every network in eager mode, image by image. Here each network is one traced function,
images come in batches, and frames are shrunk first; `benchmarks/extraction.py` compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fer_tf.faces.mtcnn import Networks, package_version

# The package's own settings.
MIN_FACE = 20
PYRAMID_FACTOR = 0.709
P_THRESHOLD, R_THRESHOLD, O_THRESHOLD = 0.6, 0.7, 0.8
CELL, STRIDE = 12, 2


@dataclass(frozen=True)
class Detections:
    """The faces of one image, surest first.

    Attributes:
      boxes: float32 (n, 4), x, y, width, height in pixels.
      scores: float32 (n,), 0 to 1.
      keypoints: float32 (n, 5, 2), eyes, nose tip and mouth corners as MTCNN sees them, pixels.
    """

    boxes: np.ndarray
    scores: np.ndarray
    keypoints: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def scaled(self, factor: float) -> Detections:
        """The same faces in an image `factor` times as large."""
        return Detections(self.boxes * np.float32(factor), self.scores, self.keypoints * np.float32(factor))

    def moved(self, by: float) -> Detections:
        """The same faces in an image whose corner lies elsewhere, pixels to the right and down."""
        by = np.float32(by)
        return Detections(self.boxes + np.array([by, by, 0, 0], np.float32), self.scores, self.keypoints + by)

    def above(self, score: float) -> Detections:
        """The faces with at least this confidence."""
        keep = self.scores >= score
        return Detections(self.boxes[keep], self.scores[keep], self.keypoints[keep])

    def each(self) -> list[Detections]:
        """One Detections a face."""
        rows = [slice(number, number + 1) for number in range(len(self))]
        return [Detections(self.boxes[row], self.scores[row], self.keypoints[row]) for row in rows]


def nothing() -> Detections:
    """Returns the Detections of an image without faces."""
    return _detections(np.zeros((0, 16)))


def shrunk(image: np.ndarray, scale: float) -> np.ndarray:
    """Returns an image scaled down, uint8; the image itself when the scale is 1."""
    import cv2

    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    # Averaging costs six times as much and shows nothing more when few pixels are skipped.
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if scale > 0.6 else cv2.INTER_AREA)


class FaceDetector:
    """Finds faces in batches of equally large images.

    Args:
      threads: threads that TensorFlow may use for one operation; 0 leaves its setting alone. Takes effect only
        when TensorFlow has not run anything yet in this process.
    """

    def __init__(self, threads: int = 0):
        self._networks = Networks(threads)
        self.name = f"mtcnn {package_version()}"

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Returns the faces of each image.

        Args:
          images: uint8 (b, h, w, 3), RGB.
        """
        boxes = self._propose(images)  # (n, 6): image, x1, y1, x2, y2, score
        if len(boxes):
            offsets, scores = self._networks.refine(images, boxes)
            boxes = _square(_suppress(_adjusted(boxes, offsets, scores, R_THRESHOLD), 0.7))
        if not len(boxes):
            return [nothing() for _ in images]
        return self._output(images, boxes)

    def verify(self, images: np.ndarray, boxes: np.ndarray) -> list[Detections]:
        """Looks for a face at one given place of each image with the output network alone.

        Args:
          images: uint8 (b, h, w, 3), RGB.
          boxes: float (b, 4), x, y, width, height: about where the face should be.
        """
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        rows = np.column_stack([np.arange(len(boxes)), corners, np.ones(len(boxes))])
        return self._output(images, _square(rows))

    def _propose(self, images: np.ndarray) -> np.ndarray:
        sheet = _sheet(*images.shape[1:3])
        if not sheet.levels:
            return np.zeros((0, 6))
        regression, score = self._networks.propose(np.stack([sheet.draw(image) for image in images]))
        image, y, x = np.nonzero((score > P_THRESHOLD) & (sheet.level_of_cell >= 0))
        level = sheet.level_of_cell[y, x]
        scale, corner = sheet.scales[level][:, None], np.stack([x, y], 1) * STRIDE - sheet.corners[level]
        offset = regression[image, y, x] * (CELL - 1)
        boxes = np.concatenate([corner + 1 + offset[:, :2], corner + CELL + offset[:, 2:]], 1) / scale
        rows = np.column_stack([image, boxes, score[image, y, x]])
        rows = _suppress(rows, 0.5, groups=image * len(sheet.levels) + level)
        return _square(_suppress(rows, 0.7))

    def _output(self, images: np.ndarray, rows: np.ndarray) -> list[Detections]:
        offsets, points, scores = self._networks.output(images, rows)
        size = rows[:, 3:5] - rows[:, 1:3]
        points = points.reshape(-1, 2, 5).transpose(0, 2, 1) * (size[:, None] + 1) + rows[:, None, 1:3] - 1
        rows = np.column_stack([_adjusted(rows, offsets, scores, -1.0), points.reshape(-1, 10)])
        rows = _suppress(rows[rows[:, 5] > O_THRESHOLD], 0.7, smaller=True)
        return [_detections(rows[rows[:, 0] == number]) for number in range(len(images))]


def pyramid(width: int, height: int) -> list[float]:
    """The scales at which the proposal network sees an image; each holds at least one of its 12 pixel cells."""
    count = round(-((np.log(min(width, height) / CELL) / np.log(PYRAMID_FACTOR)) + 1))
    scales = [CELL / MIN_FACE * PYRAMID_FACTOR**level for level in range(max(count, 0))]
    return [scale for scale in scales if int(min(width, height) * scale) >= CELL]


class _Sheet:
    """All levels of an image's pyramid side by side in one image, so that the network runs once and not per level.

    Attributes:
      levels: each level's (x, y, width, height) on the sheet; even corners, so that its cells keep their places.
      scales, corners: the levels' scales (n,) and corners (n, 2).
      level_of_cell: which level each of the network's cells lies in, -1 for those across an edge.
    """

    def __init__(self, height: int, width: int):
        self.scales = np.array(pyramid(width, height))
        self.levels: list[tuple[int, int, int, int]] = []
        columns: list[list[int]] = []  # x, width and used height of each column
        tall = int(height * self.scales[0]) if len(self.scales) else CELL
        for scale in self.scales:
            w, h = int(width * scale), int(height * scale)
            column = next((c for c in columns if w <= c[1] and c[2] + h <= tall), None)
            if column is None:
                columns.append([_even(columns[-1][0] + columns[-1][1]) if columns else 0, w, 0])
                column = columns[-1]
            self.levels.append((column[0], column[2], w, h))
            column[2] = _even(column[2] + h)
        self.corners = np.array([level[:2] for level in self.levels]).reshape(-1, 2)
        self._shape = (tall, max((x + w for x, _, w, _ in self.levels), default=CELL))
        pooled = [-(-(side - 2) // 2) - 4 for side in self._shape]
        self.level_of_cell = np.full(pooled, -1)
        for number, (x, y, w, h) in enumerate(self.levels):
            rows, columns_ = (h - CELL) // STRIDE + 1, (w - CELL) // STRIDE + 1
            self.level_of_cell[y // 2 : y // 2 + rows, x // 2 : x // 2 + columns_] = number

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Returns the sheet of an image, uint8; each level is shrunk from the one before, which is cheap."""
        import cv2

        sheet = np.full((*self._shape, 3), 127, np.uint8)
        for x, y, width, height in self.levels:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            sheet[y : y + height, x : x + width] = image
        return sheet


_sheet = lru_cache(maxsize=16)(_Sheet)


def _even(number: int) -> int:
    return number + number % 2


def _adjusted(rows: np.ndarray, offsets: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    size = rows[:, 3:5] - rows[:, 1:3] + 1
    moved = np.column_stack([rows[:, 0], rows[:, 1:5] + offsets * np.tile(size, 2), scores])
    return moved[scores > threshold]


def _square(rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    size = rows[:, 3:5] - rows[:, 1:3]
    side = size.max(1, keepdims=True)
    rows[:, 1:3] += size / 2 - side / 2
    rows[:, 3:5] = rows[:, 1:3] + side
    return rows


def _suppress(
    rows: np.ndarray, threshold: float, smaller: bool = False, groups: np.ndarray | None = None
) -> np.ndarray:
    """The package's suppression: a row falls to any surer one of its group that covers it, itself fallen or not.

    Args:
      rows: (n, 6 or more), image, x1, y1, x2, y2, score.
      threshold: the overlap above which the less sure row falls.
      smaller: overlap as a share of the smaller box instead of the union.
      groups: int (n,), the rows that are compared with each other; the rows of one image by default.
    """
    if len(rows) < 2:
        return rows
    groups = rows[:, 0] if groups is None else groups
    order = np.lexsort((-rows[:, 5], groups))
    rows, starts = rows[order], np.flatnonzero(np.diff(groups[order])) + 1
    return np.concatenate([part[_stands(part, threshold, smaller)] for part in np.split(rows, starts)])


def _stands(rows: np.ndarray, threshold: float, smaller: bool) -> np.ndarray:
    """Which of the rows, surest first, no surer one covers."""
    low = np.maximum(rows[:, None, 1:3], rows[None, :, 1:3])
    high = np.minimum(rows[:, None, 3:5], rows[None, :, 3:5])
    shared = (high - low).clip(0).prod(2)
    area = (rows[:, 3:5] - rows[:, 1:3]).prod(1)
    pair = np.minimum(area[:, None], area) if smaller else area[:, None] + area - shared
    return ~np.triu(shared > threshold * pair, 1).any(0)


def _detections(rows: np.ndarray) -> Detections:
    rows = rows.astype(np.float32)
    boxes = np.concatenate([rows[:, 1:3], rows[:, 3:5] - rows[:, 1:3]], 1)
    return Detections(boxes, rows[:, 5], rows[:, 6:16].reshape(-1, 5, 2))
