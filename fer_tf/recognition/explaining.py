"""What moved a network to its answer, drawn over the face."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fer_tf.errors import not_one_of
from fer_tf.recognition.answers import Network

if TYPE_CHECKING:
    import keras

    from fer_tf.models.fa_net import FaNetSpec


def explain(
    face: np.ndarray, expression: int, model: keras.Model, spec: FaNetSpec, method: str = "layercam"
) -> np.ndarray:
    """Returns the part of an aligned face that the network sees, with a heat map of what speaks for an expression.

    Args:
      face: uint8 (H, W, 3), RGB.
      expression: the class to explain.
      model, spec: the network.
      method: one of `fer_tf.evaluation.saliency.METHODS`.

    Returns:
      uint8 (h, w, 3): the face without the margin that the network does not see.
    """
    from fer_tf.data.preprocess import preprocess
    from fer_tf.evaluation import saliency

    prepared = preprocess(face[None], spec.image_size, spec.channels, spec.served_crop).numpy()
    heat = saliency.saliency_maps(model, prepared, [expression], method)[0]
    top, left = (round(side * (1 - spec.served_crop) / 2) for side in face.shape[:2])
    return saliency.overlay(face[top : face.shape[0] - top, left : face.shape[1] - left], heat)


def explain_by(network: Network, face: np.ndarray, expression: str, method: str = "layercam") -> np.ndarray:
    """Returns `explain` of a way of asking and an expression's name.

    Raises:
      InputError: for another expression or method, or when the weights are not at hand (a server's).
    """
    model, spec = network.live()
    if expression not in spec.expressions:
        raise not_one_of("expression", expression, spec.expressions)
    return explain(face, spec.expressions.index(expression), model, spec, method)
