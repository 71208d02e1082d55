"""The paper's competitors (Tables 2 and 3): other ways to recognize an expression, trained and scored like Fa-Net.

A method is one file of `methods/`; a feature is one file of `features/`.
"""

from __future__ import annotations

import importlib
from typing import Any

from fer_tf.labels import FA_NET

FEATURES = ("sift", "gabor", "lbp", "hog")
CLASSIFIERS = ("svm", "knn", "mlp")
# By name, which is also the module in `methods/`: the class that is built, and the title in tables.
_OWN_FILES = {
    "fisherface": ("Fisherface", "Fisherface"),
    "bag_of_words": ("BagOfWords", "Bag of Words"),
    "salient_patches": ("SalientPatches", "Salient Facial Patch"),
    "vgg_svm": ("VggSvm", "VGG+SVM"),
    "googlenet": ("Googlenet", "GoogleNet"),
    "mollahosseini": ("Mollahosseini", "Mollahosseini et al"),
    "dnnrl": ("Dnnrl", "DNNRL"),
    "attention_cnn": ("AttentionCnn", "Attention CNN"),
    "cnn_svm": ("CnnSvm", "CNN+SVM"),
}
TITLES = {FA_NET: "Fa-Net", **{name: title for name, (_, title) in _OWN_FILES.items()}}
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
        return getattr(module, _OWN_FILES[name][0])(work)
    return module.FeatureClassifier(work, *name.rsplit("_", 1))
