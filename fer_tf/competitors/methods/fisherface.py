"""`fisherface`: principal components, linear discriminants, a perceptron (Abidin and Harjoko 2012; JAFFE 89.2 %).

The source's: PCA, then LDA to one dimension less than there are classes, then a network trained by back-propagation.
Ours: how many principal components are kept and how the network is regularized, chosen by cross-validation; faces are
levelled by their eyes and their histograms equalized.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fer_tf.competitors import classifiers
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.method import Work

COMPONENTS = (20, 40, 80, 160)
HIDDEN = 32


class Fisherface:
    """PCA, LDA and a perceptron on pixels.

    Args:
      work: classes and seed.
    """

    side, landmarks = 0, False

    def __init__(self, work: Work) -> None:
        self._work = work

    def fit(self, train: Faces) -> dict[str, Any]:
        pixels = _pixels(train.images)
        most = max(1, len(train) // 2)
        kept = [count for count in COMPONENTS if count <= most] or [most]
        grid = {"reduce__n_components": kept, "network__alpha": [0.1, 1.0, 10.0]}
        work = self._work
        self._classifier = classifiers.choose(
            lambda: pipeline(work.seed), grid, pixels, train.labels, train.persons, work.num_classes, work.seed
        )
        return self._classifier.chosen

    def logits(self, faces: Faces) -> np.ndarray:
        return self._classifier.logits(_pixels(faces.images))


def pipeline(seed: int) -> Any:
    """Returns the unfitted pipeline of pixels to classes."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier((HIDDEN,), solver="lbfgs", max_iter=200, random_state=seed)
    return Pipeline(
        [
            ("reduce", PCA(svd_solver="randomized", random_state=seed)),
            ("discriminate", LinearDiscriminantAnalysis()),
            ("level", StandardScaler()),
            ("network", network),
        ]
    )


def _pixels(images: np.ndarray) -> np.ndarray:
    import cv2

    side = min(images.shape[1], 48)
    small = [cv2.resize(cv2.equalizeHist(image), (side, side), interpolation=cv2.INTER_AREA) for image in images]
    return np.array(small, np.float32).reshape(len(images), side * side) / 255
