"""The paper's competitors (Tables 2 and 3): other ways to recognize an expression, trained and scored like Fa-Net.

A method is one file of `methods/`; a feature is one file of `features/`.
"""

from __future__ import annotations

import importlib
from typing import Any

FEATURES = ("sift", "gabor", "lbp", "hog")
CLASSIFIERS = ("svm", "knn", "mlp")
# By name: the module in `methods/` and the class that is built.
_OWN_FILES = {
    "fisherface": "Fisherface",
    "bag_of_words": "BagOfWords",
    "salient_patches": "SalientPatches",
    "vgg_svm": "VggSvm",
    "googlenet": "Googlenet",
    "mollahosseini": "Mollahosseini",
    "dnnrl": "Dnnrl",
    "attention_cnn": "AttentionCnn",
    "cnn_svm": "CnnSvm",
}
TITLES = {
    "fa_net": "Fa-Net",
    "fisherface": "Fisherface",
    "bag_of_words": "Bag of Words",
    "salient_patches": "Salient Facial Patch",
    "vgg_svm": "VGG+SVM",
    "googlenet": "GoogleNet",
    "mollahosseini": "Mollahosseini et al",
    "dnnrl": "DNNRL",
    "attention_cnn": "Attention CNN",
    "cnn_svm": "CNN+SVM",
}
for _feature in FEATURES:
    for _kind in CLASSIFIERS:
        TITLES[f"{_feature}_{_kind}"] = f"{_feature.upper() if _feature != 'gabor' else 'Gabor'}+{_kind.upper()}"
NAMES = (*_OWN_FILES, *(f"{feature}_{kind}" for feature in FEATURES for kind in CLASSIFIERS))


def build(name: str, work: Any) -> Any:
    """Returns a fresh method, see `fer_tf.competitors.method.Method`.

    Args:
      name: one of NAMES.
      work: a `fer_tf.competitors.method.Work`.
    """
    file = name if name in _OWN_FILES else "feature_classifier"
    # By name: the methods import this package.
    module = importlib.import_module(f"{__name__}.methods.{file}")
    if name in _OWN_FILES:
        return getattr(module, _OWN_FILES[name])(work)
    return module.FeatureClassifier(work, *name.rsplit("_", 1))
