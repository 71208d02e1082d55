"""`mollahosseini`: two convolutions and three inception modules (Mollahosseini, Chan and Mahoor 2016; FER2013 66.4 %).

The source's: the order of layers, the modules' widths (those of GoogLeNet's 3a, 3b and 4a), dense layers of 4,096 and
1,024, about 7.3 million parameters. Ours: a mean over the last map before the dense layers, batch normalization, Adam.
"""

from __future__ import annotations

from typing import Any

import keras

from fer_tf.competitors.networks import Network, inceptions

NAMES = ("3a", "3b", "4a")
DENSE = (4096, 1024)


def architecture(x: Any, num_classes: int) -> Any:
    """Returns the logits of faces (B, S, S, 1)."""
    layers = keras.layers
    x = layers.Dense(DENSE[0], "relu")(inceptions(x, NAMES))
    x = layers.Dropout(0.5)(layers.Dense(DENSE[1], "relu")(x))
    return layers.Dense(num_classes)(x)


class Mollahosseini(Network):
    """See the module."""

    architecture = staticmethod(architecture)
