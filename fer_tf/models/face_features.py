"""What a trained Fa-Net sees in a face, as a distance for FaPE-GAN to lessen (Johnson et al., arXiv 1603.08155)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fer_tf.data.preprocess import preprocess
from fer_tf.models import fa_net, losses
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.light_cnn import MAPS_LAYERS

# Contours, parts, and how the parts stand; a LightCNN's last stage knows expressions alone.
LAYERS = MAPS_LAYERS[:3]


class FaceFeatures:
    """The distance of two faces on the inner maps of a Fa-Net that does not change.

    Args:
      model: the network.
      spec: its spec.
    """

    def __init__(self, model: keras.Model, spec: FaNetSpec) -> None:
        model.trainable = False
        self._maps = keras.Model(model.inputs, [model.get_layer(name).output for name in LAYERS])
        self._spec = spec

    @classmethod
    def load(cls, folder: str) -> FaceFeatures:
        """Returns the features of a saved Fa-Net, in the current dtype policy."""
        return cls(*fa_net.load(folder))

    def maps(self, faces: Any) -> list[Any]:
        """Returns the inner maps of faces, float (B, S, S, 3), values -1 to 1."""
        spec = self._spec
        return self._maps(preprocess((faces + 1.0) * 127.5, spec.image_size, spec.channels, spec.crop), training=False)

    def distance(self, target: Any, generated: Any) -> tf.Tensor:
        """Returns the maps' mean absolute difference as a share of the target's own size, mean over the layers.

        Args:
          target: float (B, S, S, 3), values -1 to 1.
          generated: the same shape; gradients flow to it alone.

        Returns:
          float32 (B,).
        """
        terms = []
        for real, fake in zip(self.maps(tf.stop_gradient(target)), self.maps(generated), strict=True):
            size = losses.per_image_mean(tf.abs(tf.cast(real, tf.float32)))
            terms.append(losses.feature_matching([real], [fake]) / (size + 1e-6))
        return tf.add_n(terms) / len(terms)
