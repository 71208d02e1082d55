"""Where Fa-Net looks: SmoothGrad, Grad-CAM++, Score-CAM, LayerCAM and activation maximization by tf-keras-vis.

Grad-CAM++ and Score-CAM give each channel one weight for the whole image, which suits networks that average over
places before the head. LightCNN flattens, so the same channel can speak for a class at the mouth and against it at the
brows; LayerCAM weighs each place and fits it better. Compare several before believing one.

The maps show what moves this network's logit, not why a person shows an expression: a map that lights up the
background says that the data can be told apart without the face.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from fer_tf.errors import InputError, not_one_of
from fer_tf.models.light_cnn import MAPS_LAYERS

METHODS = ("smoothgrad", "gradcam++", "scorecam", "layercam")
# Of a LightCNN 8 x 8 places for a 64-pixel input. Earlier ones are finer, but follow the contours of the face
# whatever the weights are: on a drawn task where the mouth alone matters, LayerCAM's maps of a trained and of an
# untrained network correlated by 0.84 two stages earlier, and by 0.36 here.
CAM_LAYER = MAPS_LAYERS[-1]
# Noisy copies of each image.
SMOOTH_SAMPLES = 8
SMOOTH_NOISE = 0.15
# Score-CAM asks the network once per channel: the 16 that vary most over the image stand for all 128.
SCORE_CHANNELS = 16
BATCH = 32


def saliency_maps(
    model: keras.Model,
    images: np.ndarray,
    classes: Sequence[int] | None = None,
    method: str = "layercam",
    *,
    seed: int = 0,
) -> np.ndarray:
    """Returns one heat map per image: how much each place matters for the class's logit.

    A map does not depend on the other images of the call.

    Args:
      model: a Fa-Net, preprocessed faces to logits.
      images: float32 (B, S, S, C), values 0 to 1, as `preprocess` gives them.
      classes: the class to explain for each image; None takes the predicted ones.
      method: `smoothgrad` (arXiv 1706.03825), `gradcam++` (arXiv 1710.11063), `scorecam` (arXiv 1910.01279) or
        `layercam` (Jiang et al. 2021).
      seed: seed of SmoothGrad's noise.

    Returns:
      float32 (B, S, S), each map scaled to 0 to 1; a map without any evidence is all 0.

    Raises:
      InputError: for an unknown method, or images or classes that do not fit the model.
    """
    if method not in METHODS:
        raise not_one_of("method", method, METHODS)
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or images.shape[1:] != tuple(model.input_shape[1:]):
        raise InputError(f"`images` must be (B, *{model.input_shape[1:]}). Received: {images.shape}.")
    classes = predicted_classes(model, images) if classes is None else list(classes)
    if len(classes) != len(images) or not all(0 <= index < model.output_shape[-1] for index in classes):
        raise InputError(
            f"`classes` needs {len(images)} ids from 0 to {model.output_shape[-1] - 1}. Received: {classes}."
        )
    noise = np.random.default_rng(seed).standard_normal((SMOOTH_SAMPLES, *images.shape[1:])).astype(np.float32)
    explain = {
        "smoothgrad": functools.partial(_smoothgrad, noise=noise),
        "gradcam++": _gradcam_plus_plus,
        "scorecam": _scorecam,
        "layercam": _layercam,
    }[method]
    fast = compiled(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' remark that tf-keras-vis passes a list to a one-input model.
        maps = [
            explain(fast, images[start : start + BATCH], classes[start : start + BATCH])
            for start in range(0, len(images), BATCH)
        ]
    return np.nan_to_num(np.concatenate(maps)).astype(np.float32)


class _Compiled:
    """What tf-keras-vis uses of a keras.Model, run as a graph; by itself it calls models eagerly."""

    def __init__(self, model: keras.Model) -> None:
        import tensorflow as tf
        from tf_keras_vis.saliency import Saliency

        self.inputs, self.outputs, self.layers = model.inputs, model.outputs, model.layers
        # One trace for any number of images: tracing takes as long as a batch.
        faces = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        self._run = tf.function(lambda images: model(images, training=False), input_signature=[faces], autograph=False)
        explain = Saliency(model)

        # The tape inside the graph, not around it: TensorFlow would otherwise also compute every weight's gradient.
        @tf.function(input_signature=[faces, tf.TensorSpec((None,), tf.int32)], autograph=False)
        def saliency(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            return explain(_logits_of(classes), images, keepdims=True, normalize_map=False)

        self.saliency = saliency

    def __call__(self, inputs: list, training: bool = False) -> Any:
        return self._run(inputs[0])

    def predict(self, inputs: list, batch_size: int) -> np.ndarray:
        parts = [self._run(inputs[0][start : start + batch_size]) for start in range(0, len(inputs[0]), batch_size)]
        return np.concatenate(parts)


def _logits_of(classes: Any) -> Callable[[Any], Any]:
    """Each image's logit of its class, as tf-keras-vis asks for it."""
    import tensorflow as tf

    return lambda logits: tf.gather(logits, classes, axis=1, batch_dims=1)


@functools.lru_cache(maxsize=2)
def compiled(model: keras.Model) -> _Compiled:
    # Tracing takes seconds; a demo asks for one image after another.
    return _Compiled(model)


def predicted_classes(model: keras.Model, images: np.ndarray) -> list[int]:
    """Returns the class with the highest logit for each preprocessed image."""
    logits = [np.asarray(model(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
    return np.concatenate(logits).argmax(-1).tolist()


def _smoothgrad(model: _Compiled, images: np.ndarray, classes: list[int], noise: np.ndarray) -> np.ndarray:
    # tf-keras-vis' own noise comes from numpy's global generator and depends on the batch, so it is made here.
    spread = images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True)
    total = np.zeros(images.shape[:3])
    for pattern in noise:
        total += model.saliency(images + SMOOTH_NOISE * spread * pattern, classes).numpy().max(-1)
    return _scaled(total)


def _gradcam_plus_plus(model: _Compiled, images: np.ndarray, classes: list[int]) -> np.ndarray:
    import tensorflow as tf
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus

    def score(logits: tf.Tensor) -> tf.Tensor:
        chosen = _logits_of(classes)(logits)
        # The method takes exp(score), which overflows for a sure network. The value cancels out of the scaled
        # map, so it is set to 0 while the gradient stays.
        return chosen - tf.stop_gradient(chosen)

    explain = GradcamPlusPlus(model)
    return explain(
        score,
        images,
        penultimate_layer=CAM_LAYER,
        seek_penultimate_conv_layer=False,
        # LightCNN's maps and gradients have both signs; the method divides by sums of them, which then pass through 0.
        gradient_modifier=tf.nn.relu,
    )


def _scorecam(model: _Compiled, images: np.ndarray, classes: list[int]) -> np.ndarray:
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

    # Its own `max_N` takes the channels of all images together, so it is asked for all of those that are chosen here.
    maps = next(layer for layer in model.layers if layer.name == CAM_LAYER).output
    varying = _MostVarying(min(SCORE_CHANNELS, maps.shape[-1]), name="most_varying")
    varying(maps)
    chosen = copy.copy(model)
    chosen.layers = [*model.layers, varying]
    explain = Scorecam(chosen)
    return explain(
        CategoricalScore(classes),
        images,
        penultimate_layer=varying.name,
        seek_penultimate_conv_layer=False,
        batch_size=BATCH,
    )


class _MostVarying(keras.layers.Layer):
    """Keeps, of each image's feature maps (B, H, W, C), the `count` that vary most over the image."""

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(**options)
        self._count = count

    def call(self, maps: Any) -> Any:
        import tensorflow as tf

        _, chosen = tf.math.top_k(tf.math.reduce_std(maps, (1, 2)), self._count)
        return tf.gather(maps, chosen, axis=3, batch_dims=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self._count)


def _layercam(model: _Compiled, images: np.ndarray, classes: list[int]) -> np.ndarray:
    from tf_keras_vis.layercam import Layercam

    explain = Layercam(model)
    return explain(
        _logits_of(classes),
        images,
        penultimate_layer=CAM_LAYER,
        seek_penultimate_conv_layer=False,
    )


def activation_maximization(model: keras.Model, classes: Sequence[int], *, steps: int = 100, seed: int = 0) -> Any:
    """Returns, for each class, an input that the network takes for that class as strongly as it can.

    Args:
      model: a Fa-Net, preprocessed faces to logits.
      classes: class ids.
      steps: gradient steps.
      seed: seed of the grey noise that the search starts from.

    Returns:
      float32 (len(classes), S, S, C), values 0 to 1.
    """
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.activation_maximization.input_modifiers import Jitter
    from tf_keras_vis.activation_maximization.regularizers import TotalVariation2D
    from tf_keras_vis.utils.scores import CategoricalScore

    size = model.input_shape[1:]
    start = np.random.default_rng(seed).uniform(0.4, 0.6, (len(classes), *size)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = ActivationMaximization(compiled(model))(
            CategoricalScore(list(classes)),
            seed_input=start,
            input_range=(0.0, 1.0),
            # The library's defaults are made for inputs up to 255 and 224 pixels.
            input_modifiers=[Jitter(jitter=max(1, size[0] // 32))],
            regularizers=[TotalVariation2D(weight=20.0)],
            steps=steps,
            optimizer=keras.optimizers.RMSprop(0.02),
        )
    return np.asarray(tf.convert_to_tensor(images), np.float32)


def overlay(image: np.ndarray, heat: np.ndarray, strength: float = 0.55) -> np.ndarray:
    """Returns the picture with the heat map on it: bright yellow where it matters most, the plain picture where not.

    Args:
      image: (H, W), (H, W, 1) or (H, W, 3), uint8 0 to 255 or float 0 to 1.
      heat: float (h, w), 0 to 1; stretched to the picture's size.
      strength: how much of the picture the hottest place hides, 0 to 1.

    Returns:
      uint8 (H, W, 3).
    """
    import cv2
    from matplotlib import colormaps

    picture = np.asarray(image, np.float32)
    if not np.issubdtype(np.asarray(image).dtype, np.integer):
        picture = picture * 255
    picture = picture[..., None] if picture.ndim == 2 else picture
    picture = np.repeat(picture, 3, -1) if picture.shape[-1] == 1 else picture
    heat = np.clip(np.asarray(heat, np.float32), 0, 1)
    heat = np.clip(cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0, 1)[..., None]
    # Inferno grows in lightness with its value, so the order survives grey printing and colour-blind eyes.
    colour = colormaps["inferno"](heat[..., 0])[..., :3] * 255
    return ((1 - strength * heat) * picture + strength * heat * colour).round().clip(0, 255).astype(np.uint8)


def _scaled(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return np.divide(maps - low, high - low, out=np.zeros_like(maps), where=high > low)
