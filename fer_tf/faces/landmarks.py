"""dlib's 68 landmarks inside a face box, and the text file of section 3.2."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

from fer_tf.errors import InputError

NUM_LANDMARKS = 68
PACKAGED_MODEL = "shape_predictor_68_face_landmarks"


def hog_box(box: np.ndarray) -> np.ndarray:
    """Returns the square that dlib's HOG detector would draw, from an MTCNN box.

    dlib's predictor was trained on HOG boxes, which reach from the brows to the chin; MTCNN's boxes are taller
    than wide and begin at the forehead.

    Args:
      box: float (4,), x, y, width, height in pixels.
    """
    x, y, width, height = box
    side = 0.5 * (width + height) * 0.95
    return np.array([x + width / 2 - side / 2, y + 0.58 * height - side / 2, side, side], np.float32)


class LandmarkPredictor:
    """Finds the 68 iBUG points of a face.

    Args:
      model: path of a dlib shape predictor with 68 points; empty for the packaged one.

    Raises:
      InputError: the file is missing or is no such predictor.
    """

    def __init__(self, model: str = ""):
        import dlib

        path = model or _packaged_model()
        try:
            self._predictor = dlib.shape_predictor(path)
        except RuntimeError as error:
            raise InputError(f"`landmark_model` must be a dlib shape predictor file. Received: {path!r}.") from error
        self._rectangle = dlib.rectangle
        self.name = os.path.basename(path).removesuffix(".dat") + f" (dlib {dlib.__version__})"

    def predict(self, rgb: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Returns the points, float32 (68, 2), in pixels of the image.

        Args:
          rgb: uint8 (h, w, 3) or (h, w).
          square: float (4,), a HOG-like box, x, y, width, height.
        """
        x, y, width, height = (float(v) for v in square)
        shape = self._predictor(rgb, self._rectangle(round(x), round(y), round(x + width), round(y + height)))
        return np.array([(point.x, point.y) for point in shape.parts()], np.float32)


def _packaged_model() -> str:
    # The package itself cannot be imported: it needs pkg_resources.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        raise InputError("`landmark_model`: the package face_recognition_models is missing; run `make` to install it.")
    return os.path.join(spec.submodule_search_locations[0], "models", f"{PACKAGED_MODEL}.dat")


def write_points(path: str, landmarks: np.ndarray) -> None:
    """Writes landmarks as a text file, one `x y` a line, pixels with two decimals (section 3.2).

    Args:
      path: the file to write.
      landmarks: float (68, 2).
    """
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{x:.2f} {y:.2f}\n" for x, y in landmarks)


def read_points(path: str) -> np.ndarray:
    """Reads what `write_points` wrote, float32 (68, 2); raises InputError when it is something else."""
    try:
        points = np.loadtxt(path, dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise InputError(f"{path!r} must hold {NUM_LANDMARKS} lines `x y`. Received: {error}.") from error
    if points.shape != (NUM_LANDMARKS, 2):
        raise InputError(f"{path!r} must hold {NUM_LANDMARKS} lines `x y`. Received: {points.shape}.")
    return points
