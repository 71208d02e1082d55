"""`mollahosseini`: two convolutions and three inception modules (Mollahosseini, Chan and Mahoor 2016; FER2013 66.4 %).

The source's: the order of layers, the modules' widths (those of GoogLeNet's 3a, 3b and 4a), dense layers of 4,096 and
1,024, about 7.3 million parameters. Ours: a mean over the last map before the dense layers, batch normalization, Adam.
"""

from __future__ import annotations

from typing import Any

import keras

from fer_tf.competitors.method import Work
from fer_tf.competitors.networks import Network, Training, convolved, inception


class Mollahosseini(Network):
    """See the module."""

    def __init__(self, work: Work) -> None:
        super().__init__(work, architecture, Training())


def architecture(x: Any, num_classes: int) -> Any:
    """Returns the logits of faces (B, S, S, 1)."""
    layers = keras.layers
    x = layers.MaxPooling2D(3, 2, "same")(convolved(x, 64, 7, 2))
    x = layers.MaxPooling2D(3, 2, "same")(convolved(x, 192, 3))
    x = inception(x, 64, (96, 128), (16, 32), 32)
    x = layers.MaxPooling2D(3, 2, "same")(inception(x, 128, (128, 192), (32, 96), 64))
    x = layers.GlobalAveragePooling2D()(inception(x, 192, (96, 208), (16, 48), 64))
    x = layers.Dense(4096, "relu")(x)
    x = layers.Dropout(0.5)(layers.Dense(1024, "relu")(x))
    return layers.Dense(num_classes)(x)
