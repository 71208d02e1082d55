"""What a trained network sees in a face, as a distance for FaPE-GAN to lessen (Johnson et al., arXiv 1603.08155)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from fer_tf.data.preprocess import preprocess
from fer_tf.models import dlib_resnet, fa_net, losses
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.light_cnn import MAPS_LAYERS

# Contours, parts, and how the parts stand; a LightCNN's last stage knows expressions alone.
LAYERS = MAPS_LAYERS[:3]
# The network of dlib's face descriptor, whose maps say who a face is, deep ones best.
DLIB = "dlib"
# Side of what dlib's descriptor looks at as a share of an aligned face's: the median of rendered faces in all poses.
DLIB_CROP = 0.88


class FaceFeatures:
    """The distance of two faces on the inner maps of a Fa-Net that does not change.

    Args:
      model: the network.
      spec: its spec.
      layers: whose outputs are compared.
    """

    def __init__(self, model: keras.Model, spec: FaNetSpec, layers: Sequence[str] = LAYERS) -> None:
        model.trainable = False
        self._maps = keras.Model(model.inputs, [model.get_layer(name).output for name in layers])
        self._spec = spec

    @classmethod
    def load(cls, folder: str) -> FaceFeatures:
        """Returns the features of a saved Fa-Net, or of dlib's descriptor as it was published (`DLIB`).

        They are in the current dtype policy.
        """
        if folder != DLIB:
            return cls(*fa_net.load(folder))
        # Its head stays fresh and unused, so the labels are nobody's.
        spec = FaNetSpec(("", "-"), dlib_resnet.VARIANT, dlib_resnet.ENLARGED_SIDE, 3, DLIB_CROP)
        model = fa_net.build(spec)
        dlib_resnet.begin_with_published(model)
        return cls(model, spec, MAPS_LAYERS)

    def maps(self, faces: Any) -> list[Any]:
        """Returns the inner maps of aligned faces, float (B, S, S, 3), values -1 to 1."""
        spec = self._spec
        window = spec.window(aligned=True)
        return self._maps(preprocess((faces + 1.0) * 127.5, spec.image_size, spec.channels, window), training=False)

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
