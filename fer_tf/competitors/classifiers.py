"""SVM, nearest neighbours and a perceptron on features; what is to be chosen is chosen by cross-validation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning

# Above this many faces one part of them chooses the parameters in the place of several.
LARGE = 5000
MAX_CHOICE_FACES = 8000
# Above this many the SVM's kernel is approximated: training an exact one takes time with their square.
MAX_KERNEL_FACES = 40_000
KERNEL_CACHE_MB = 1000
MAX_COMPONENTS = 200
NYSTROEM_COMPONENTS = 1000
FOLDS = 5
# A class that the training part lacks is this much less likely than the least likely one.
ABSENT = 10.0


class UnitSpread(BaseEstimator, TransformerMixin):
    """Divides all features by one number, so that the mean squared distance of two samples is 2."""

    def fit(self, features: np.ndarray, labels: Any = None) -> UnitSpread:
        self.scale_ = float(np.sqrt(features.var(0).sum())) or 1.0
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        return features / self.scale_


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier.

    Attributes:
      model: the scikit-learn pipeline.
      num_classes: length of the answers; the training part may lack some classes.
      chosen: the parameters that cross-validation chose, and its accuracy.
    """

    model: Any
    num_classes: int
    chosen: dict[str, Any]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns a score of each class, float64 (N, num_classes)."""
        if not len(features):
            return np.zeros((0, self.num_classes))
        if hasattr(self.model, "decision_function"):
            found = self.model.decision_function(features)
        else:
            found = np.log(self.model.predict_proba(features) + 1e-3)
        return spread_over(found, self.model.classes_, self.num_classes)


def spread_over(found: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the scores of the classes that a model knows as scores of all, float64 (N, num_classes)."""
    if found.ndim == 1:
        found = np.stack([-found, found], 1)
    logits = np.repeat(found.min(1, keepdims=True) - ABSENT, num_classes, 1)
    logits[:, classes] = found
    return logits


def fit(
    kind: str, features: np.ndarray, labels: np.ndarray, persons: np.ndarray, num_classes: int, seed: int = 0
) -> Classifier:
    """Returns a classifier of features.

    Args:
      kind: `svm`, `knn` or `mlp`.
      features: float (N, D).
      labels: int (N,).
      persons: str (N,), empty where unknown; parameters are chosen on persons that were not trained on.
      num_classes: length of the answers.
      seed: of everything random.
    """
    make, grid = {"svm": _svm, "knn": _knn, "mlp": _mlp}[kind](len(features), seed)
    components = min(MAX_COMPONENTS, len(features) // 2, features.shape[1])
    return choose(lambda: _reduced(components, make(), seed), grid, features, labels, persons, num_classes, seed)


def choose(
    make: Callable[[], Any],
    grid: dict[str, list],
    features: np.ndarray,
    labels: np.ndarray,
    persons: np.ndarray,
    num_classes: int,
    seed: int = 0,
) -> Classifier:
    """Returns a pipeline fitted with the parameters that did best on left-out persons (or faces) of these.

    Args:
      make: builds a fresh pipeline.
      grid: values to try, by the pipeline's parameter names.
      features, labels, persons, num_classes, seed: as for `fit`.
    """
    from sklearn.model_selection import GridSearchCV

    rows = np.arange(len(labels))
    if len(rows) > MAX_CHOICE_FACES:
        rows = np.random.default_rng(seed).permutation(rows)[:MAX_CHOICE_FACES]
    workers = (os.cpu_count() or 1) if len(rows) > 1000 else 1
    folds, groups = folds_of(labels[rows], persons[rows], seed)
    search = GridSearchCV(make(), grid, cv=folds, n_jobs=workers, refit=False, error_score="raise")
    with warnings.catch_warnings():
        # A perceptron that is stopped early is regularized by that, and a fold may lack a class.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The least populated class")
        search.fit(features[rows], labels[rows], groups=groups)
        model = make().set_params(**search.best_params_).fit(features, labels)
    names = {name.split("__")[-1]: value for name, value in search.best_params_.items()}
    return Classifier(model, num_classes, {**names, "cross_validation": float(search.best_score_)})


def folds_of(labels: np.ndarray, persons: np.ndarray, seed: int = 0) -> tuple[Any, np.ndarray | None]:
    """Returns how faces are parted to choose parameters: by persons where three or more are known."""
    from sklearn import model_selection

    known = len(set(persons.tolist()) - {""})
    one = {"n_splits": 1, "test_size": 0.25, "random_state": seed}
    if known > 2:
        large = model_selection.GroupShuffleSplit(**one)
        return (large if len(labels) > LARGE else model_selection.GroupKFold(min(FOLDS, known))), persons
    if np.bincount(labels).max() < 2 or np.bincount(labels)[np.unique(labels)].min() < 2:
        return model_selection.KFold(2, shuffle=True, random_state=seed), None
    if len(labels) > LARGE:
        return model_selection.StratifiedShuffleSplit(**one), None
    fewest = int(np.bincount(labels)[np.unique(labels)].min())
    return model_selection.StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed), None


def _reduced(components: int, classifier: Any, seed: int) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline

    reduce = PCA(components, svd_solver="randomized", random_state=seed)
    return Pipeline([("reduce", reduce), ("scale", UnitSpread()), ("classify", classifier)])


def _svm(faces: int, seed: int) -> tuple[Callable[[], Any], dict[str, list]]:
    """An SVM with a Gaussian kernel; on very many faces that kernel's Nystroem approximation and stochastic descent."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.svm import SVC

    if faces <= LARGE:
        return lambda: SVC(gamma=1.0), {"classify__C": [1.0, 10.0, 100.0], "classify__gamma": [0.25, 1.0]}
    if faces <= MAX_KERNEL_FACES:
        grid = {"classify__C": [1.0, 10.0], "classify__gamma": [1.0, 2.0]}
        return lambda: SVC(gamma=1.0, cache_size=KERNEL_CACHE_MB), grid
    workers = os.cpu_count() or 1

    def make() -> Any:
        kernel = Nystroem(gamma=1.0, n_components=NYSTROEM_COMPONENTS, random_state=seed)
        line = SGDClassifier("hinge", max_iter=30, tol=1e-4, average=True, random_state=seed, n_jobs=workers)
        return Pipeline([("kernel", kernel), ("line", line)])

    return make, {"classify__line__alpha": [1e-6, 1e-5, 1e-4]}


def _knn(faces: int, seed: int) -> tuple[Callable[[], Any], dict[str, list]]:
    from sklearn.neighbors import KNeighborsClassifier

    def make() -> Any:
        return KNeighborsClassifier(weights="distance", metric="cosine", algorithm="brute")

    counts = [1, 3, 5, 9, 15] if faces <= LARGE else [5, 15, 30]
    # A fold of a tiny set has no more faces than a part of them.
    return make, {"classify__n_neighbors": [count for count in counts if count <= max(1, faces // 4)]}


def _mlp(faces: int, seed: int) -> tuple[Callable[[], Any], dict[str, list]]:
    """A perceptron with one hidden layer."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    if faces <= LARGE:
        options = {"solver": "lbfgs", "max_iter": 100}
        grid = [0.1, 1.0, 10.0]
    else:
        options = {"early_stopping": True, "max_iter": 60, "batch_size": 256}
        grid = [1e-4, 1e-1]

    def make() -> Any:
        network = MLPClassifier((128,), random_state=seed, **options)
        return Pipeline([("level", StandardScaler()), ("network", network)])

    return make, {"classify__network__alpha": grid}
