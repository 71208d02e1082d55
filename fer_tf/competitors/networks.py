"""How the networks among the competitors are built and trained: on grey faces in memory, going on after a stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from fer_tf import files
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.method import Work
from fer_tf.run_folder import NetworkFolder

BATCH = 64
# Optimizer steps that a small set gets at least, however few epochs that are of a large one.
MIN_STEPS = 600
# Adam's at its peak; it falls to 0 along a cosine.
LEARNING_RATE = 1e-3
# GoogLeNet's inception modules (Szegedy et al. 2015, table 1): 1 x 1, reduced and 3 x 3, reduced and 5 x 5, pooled.
MODULES = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}


class Network:
    """A Keras classifier of grey faces; each kind says what it is made of.

    Args:
      work: classes, seed, epochs, folder of the checkpoint.

    Attributes:
      epochs: passes over a large training part.
      architecture: takes a tensor (B, S, S, 1) of mean 0 and variance 1 and the number of classes; gives logits, and
        behind them what the loss needs.
    """

    side, landmarks = 0, False
    epochs = 30
    architecture: Callable[[Any, int], Any]

    def __init__(self, work: Work) -> None:
        self._work = work

    def __getstate__(self) -> dict[str, Any]:
        """What is kept: the weights, without what trained them."""
        return {"work": self._work, "side": self._side, "weights": self._model.get_weights()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Builds the network that was kept."""
        self._work, self._side = state["work"], state["side"]
        self._model = self._built(self._side)
        self._model.set_weights(state["weights"])

    def fit(self, train: Faces) -> dict[str, Any]:
        keras.utils.set_random_seed(self._work.seed)
        self._side = train.images.shape[1]
        self._model = self._built(self._side)
        batch = batch_of(len(train))
        steps = max(1, len(train) // batch)
        epochs = self._work.epochs or max(self.epochs, MIN_STEPS // steps)
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * steps)
        optimizer = keras.optimizers.Adam(rate)
        # A step that made its moments itself would be traced a second time.
        optimizer.build(self._model.trainable_variables)
        self._model.compile(optimizer, self.loss(), jit_compile=False)
        history = self._model.fit(
            standardized(train.images),
            train.labels,
            batch_size=batch,
            epochs=epochs,
            verbose=0,
            callbacks=[_Progress(epochs), *_checkpoint(self._work.folder)],
        )
        last = history.history.get("loss", [float("nan")])[-1]
        return {"epochs": epochs, "parameters": self._model.count_params(), "last_loss": float(last)}

    def loss(self) -> Callable:
        """Returns the loss of labels, int (B,), and what the architecture gives."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def logits(self, faces: Faces) -> np.ndarray:
        found = self._model.predict(standardized(faces.images), batch_size=128, verbose=0)
        # A loss may ask for more than the logits.
        return np.asarray(found)[:, : self._work.num_classes]

    def features(self, faces: Faces, layer: str) -> np.ndarray:
        """Returns what a layer gives of each face, float32 (N, D), rows of length 1."""
        inner = keras.Model(self._model.inputs, self._model.get_layer(layer).output)
        found = inner.predict(standardized(faces.images), batch_size=128, verbose=0).reshape(len(faces), -1)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)

    def _built(self, side: int) -> keras.Model:
        image = keras.Input((side, side, 1))
        x = image
        # Active in training alone.
        for layer in (
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomTranslation(0.06, 0.06, fill_mode="nearest"),
            keras.layers.RandomRotation(0.03, fill_mode="nearest"),
        ):
            x = layer(x)
        return keras.Model(image, self.architecture(x, self._work.num_classes))


def batch_of(faces: int) -> int:
    """Returns the faces of a step: at most 64, and at least four steps an epoch."""
    return min(BATCH, max(4, faces // 4))


def standardized(images: np.ndarray) -> np.ndarray:
    """Returns uint8 faces (N, S, S) with mean 0 and variance 1 each, float32 (N, S, S, 1)."""
    values = images.astype(np.float32)
    values -= values.mean((1, 2), keepdims=True)
    return (values / (values.std((1, 2), keepdims=True) + 1e-3))[..., None]


def convolved(x: Any, filters: int, size: int, strides: int = 1) -> Any:
    """A convolution, batch normalization and ReLU."""
    x = keras.layers.Conv2D(filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal")(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))


def inception(x: Any, ones: int, threes: tuple[int, int], fives: tuple[int, int], pooled: int) -> Any:
    """An inception module (Szegedy et al. 2015): 1 x 1, reduced 3 x 3, reduced 5 x 5 and pooled, side by side."""
    branches = [
        convolved(x, ones, 1),
        convolved(convolved(x, threes[0], 1), threes[1], 3),
        convolved(convolved(x, fives[0], 1), fives[1], 5),
        convolved(keras.layers.MaxPooling2D(3, 1, "same")(x), pooled, 1),
    ]
    return keras.layers.Concatenate()(branches)


def inceptions(x: Any, names: Sequence[str], reduced: int = 0) -> Any:
    """Two convolutions that leave an eighth of a face's side, some of MODULES, and a mean over the last map.

    Args:
      x: faces (B, S, S, 1).
      names: of the modules; a pooling parts those whose numbers differ.
      reduced: filters of a 1 x 1 convolution before the second; 0 for none.
    """
    pool = keras.layers.MaxPooling2D
    x = pool(3, 2, "same")(convolved(x, 64, 7, 2))
    x = convolved(x, reduced, 1) if reduced else x
    x = pool(3, 2, "same")(convolved(x, 192, 3))
    for before, name in zip((names[0], *names), names, strict=False):
        x = x if before[0] == name[0] else pool(3, 2, "same")(x)
        x = inception(x, *MODULES[name])
    return keras.layers.GlobalAveragePooling2D()(x)


def _checkpoint(folder: str) -> list[keras.callbacks.Callback]:
    """Keeps the newest epoch until the end of the training, where the folder is a local one."""
    if not folder or not files.is_local(folder):
        return []
    return [keras.callbacks.BackupAndRestore(NetworkFolder(folder).backup)]


class _Progress(keras.callbacks.Callback):
    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (epoch + 1) % max(1, self._epochs // 10) == 0:
            logging.info("epoch %d of %d, loss %.4f", epoch + 1, self._epochs, (logs or {}).get("loss", float("nan")))
