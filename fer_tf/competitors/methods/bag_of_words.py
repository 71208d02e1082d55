"""`bag_of_words`: visual words and local learning (Ionescu, Popescu and Grozea 2013; FER2013 67.4 %).

The source's: dense SIFT at several scales, k-means vocabulary, a spatial pyramid, presence instead of counts, vectors
of length 1, one-vs-all SVM, and local learning on each face's nearest neighbours. Ours: the vocabulary's size (theirs
has 17,000 words), the grid, and the number of neighbours and penalty, of which cross-validation takes the better ones.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np

from fer_tf.competitors import local_learning
from fer_tf.competitors.classifiers import folds_of
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.features import sift
from fer_tf.competitors.method import Work

WORDS, MIN_WORDS = 1000, 32
# Descriptors a word is the mean of, at least, and all that k-means sees.
DESCRIPTORS_A_WORD, MAX_DESCRIPTORS = 20, 100_000
# Widths of the patches and distance of their centres, as shares of the face's side.
WIDTHS, STEP = (1 / 4, 1 / 3), 1 / 12
PYRAMID = (1, 2, 3)
NEIGHBOURS, PENALTIES = (50, 200, 500), (1.0, 100.0)
MAX_CHOICE_FACES = 1500
CHUNK = 256


class BagOfWords:
    """Presence of visual words in the cells of a pyramid, and an SVM for each face.

    Args:
      work: classes and seed.
    """

    side, landmarks = 0, False

    def __init__(self, work: Work) -> None:
        self._work = work

    def fit(self, train: Faces) -> dict[str, Any]:
        self._vocabulary = vocabulary(train.images, self._work.seed)
        self._train, self._labels = self._presence(train.images), train.labels
        self._neighbours, self._penalty, accuracy = self._choose(train)
        chosen = {"words": len(self._vocabulary), "neighbours": self._neighbours, "C": self._penalty}
        return {**chosen, "cross_validation": accuracy}

    def logits(self, faces: Faces) -> np.ndarray:
        return self._local(self._train, self._labels, self._presence(faces.images), self._neighbours, self._penalty)

    def _local(self, train: Any, labels: np.ndarray, faces: Any, neighbours: int, penalty: float) -> np.ndarray:
        return local_learning.logits(train, labels, faces, neighbours, penalty, self._work.num_classes)

    def _choose(self, train: Faces) -> tuple[int, float, float]:
        """Neighbours and penalty by one left-out fold of the training part."""
        folds, groups = folds_of(train.labels, train.persons, self._work.seed)
        kept, left = next(folds.split(self._train, train.labels, groups))
        left = left[:MAX_CHOICE_FACES]
        found = []
        for neighbours in NEIGHBOURS:
            for penalty in PENALTIES:
                logits = self._local(self._train[kept], train.labels[kept], self._train[left], neighbours, penalty)
                found.append((float((logits.argmax(1) == train.labels[left]).mean()), neighbours, penalty))
            if neighbours >= len(kept):
                break
        accuracy, neighbours, penalty = max(found, key=lambda row: row[0])
        return neighbours, penalty, accuracy

    def _presence(self, images: np.ndarray) -> Any:
        """Which words stand in each cell of the pyramid, sparse float32 (N, cells * words), rows of length 1."""
        from joblib import Parallel, delayed
        from scipy.sparse import vstack

        chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
        workers = min(os.cpu_count() or 1, len(chunks)) if len(chunks) > 4 else 1
        if len(chunks) > 20:
            logging.info("bag_of_words: words of %d faces", len(images))
        return vstack(Parallel(n_jobs=workers)(delayed(presence)(chunk, self._vocabulary) for chunk in chunks), "csr")


def dense(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the descriptors of a face, float32 (P, 128), and their places, float (P, 2), 0 to 1."""
    side = image.shape[0]
    shares = np.arange(STEP / 2, 1, STEP)
    places = np.array([(x, y) for y in shares for x in shares])
    found = [sift.descriptors(image, places * side, width * side) for width in WIDTHS]
    return np.concatenate(found), np.tile(places, (len(WIDTHS), 1))


def vocabulary(images: np.ndarray, seed: int) -> np.ndarray:
    """Returns the visual words, float32 (K, 128), by k-means over descriptors of some of the faces."""
    from sklearn.cluster import MiniBatchKMeans

    rng = np.random.default_rng(seed)
    each = len(dense(images[0])[0])
    shown = rng.permutation(len(images))[: max(1, MAX_DESCRIPTORS // each)]
    found = np.concatenate([dense(images[index])[0] for index in shown])
    words = max(min(WORDS, len(found) // DESCRIPTORS_A_WORD), min(MIN_WORDS, len(found)))
    means = MiniBatchKMeans(words, random_state=seed, n_init=1, batch_size=4096, max_iter=50).fit(found)
    return means.cluster_centers_.astype(np.float32)


def presence(images: np.ndarray, words: np.ndarray) -> Any:
    """Returns the presence vectors of faces, sparse float32 (N, cells * words), rows of length 1."""
    from scipy.sparse import csr_matrix

    squares = (words**2).sum(1) / 2
    rows, columns = [], []
    for row, image in enumerate(images):
        descriptors, places = dense(image)
        # The nearest word by Euclidean distance.
        nearest = (descriptors @ words.T - squares).argmax(1)
        first, seen = 0, []
        for level in PYRAMID:
            cells = np.minimum((places * level).astype(int), level - 1)
            seen.append(first + (cells[:, 1] * level + cells[:, 0]) * len(words) + nearest)
            first += level * level * len(words)
        found = np.unique(np.concatenate(seen))
        rows.append(np.full(len(found), row))
        columns.append(found)
    width = sum(level * level for level in PYRAMID) * len(words)
    counts = np.array([len(found) for found in columns])
    values = np.repeat(1 / np.sqrt(counts), counts).astype(np.float32)
    return csr_matrix((values, (np.concatenate(rows), np.concatenate(columns))), (len(images), width))
