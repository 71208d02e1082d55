"""`{sift,gabor,lbp,hog}_{svm,knn,mlp}`: hand-crafted features and a classifier, as section 1 of the paper names them.

Ours: the grids and parameters of `features/`, and principal components before the classifier.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fer_tf.competitors import classifiers, features
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.method import Work


class FeatureClassifier:
    """A classifier of one feature.

    Args:
      work: classes, cache, seed.
      feature: a module of `fer_tf.competitors.features`.
      kind: `svm`, `knn` or `mlp`.
    """

    side, landmarks = 0, False

    def __init__(self, work: Work, feature: str, kind: str) -> None:
        self._work, self._feature, self._kind = work, feature, kind

    def fit(self, train: Faces) -> dict[str, Any]:
        found, work = self._features(train), self._work
        self._classifier = classifiers.fit(self._kind, found, train.labels, train.persons, work.num_classes, work.seed)
        return self._classifier.chosen

    def logits(self, faces: Faces) -> np.ndarray:
        return self._classifier.logits(self._features(faces))

    def _features(self, faces: Faces) -> np.ndarray:
        cache = self._work.cache
        return faces.measured(self._feature, lambda all_of: features.compute(self._feature, all_of.images, cache))
