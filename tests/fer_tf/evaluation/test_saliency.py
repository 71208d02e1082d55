"""The maps point at what the network uses, and change when its weights do."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from fer_tf.data.preprocess import preprocess
from fer_tf.errors import InputError
from fer_tf.evaluation import saliency
from fer_tf.models.light_cnn import light_cnn
from tests import toy_data

SIZE = 48
# Curve, opening and brow slope: the two classes differ in the mouth alone.
MOUTHS = {"closed": (0, 0, 0), "open": (0, 26, 0)}
# The mouth of a drawn face with its opening, as shares of the side.
MOUTH_TOP, MOUTH_BOTTOM = 0.62, 0.92


def mouth_faces(monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[np.ndarray, np.ndarray]:
    for name, shape in MOUTHS.items():
        monkeypatch.setitem(toy_data.SHAPE, name, shape)
    labels = np.arange(count) % 2
    drawn = [toy_data.draw(list(MOUTHS)[label], "front", n // 2, wobble=n % 5) for n, label in enumerate(labels)]
    return np.asarray(preprocess(np.stack([image for image, _, _ in drawn]), SIZE)), labels


@pytest.fixture(scope="module")
def mouth_task() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        images, labels = mouth_faces(monkeypatch, 32)
    # The order of the faces too, which else follows from the tests before.
    keras.utils.set_random_seed(0)
    model = light_cnn("light_cnn_9", 2, SIZE, dropout=0.0, seed=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-4), loss, metrics=["accuracy"])
    model.fit(images, labels, batch_size=8, epochs=14, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[1] == 1.0
    return model, images[:4], labels[:4]


@pytest.fixture(scope="module")
def fresh() -> keras.Model:
    """A network that learned nothing."""
    return light_cnn("light_cnn_9", 2, SIZE, dropout=0.0, seed=7)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    # A map without evidence is constant: it agrees with nothing.
    pairs = [(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True) if x.std() > 0 and y.std() > 0]
    return float(np.sum([np.corrcoef(x, y)[0, 1] for x, y in pairs]) / len(a))


@pytest.mark.parametrize("method", saliency.METHODS)
def test_a_mouth_only_task_lights_up_the_mouth(mouth_task: tuple, method: str) -> None:
    model, images, labels = mouth_task
    heat = saliency.saliency_maps(model, images, labels.tolist(), method).mean(0)
    band = slice(int(MOUTH_TOP * SIZE), int(MOUTH_BOTTOM * SIZE))
    middle = slice(SIZE // 4, 3 * SIZE // 4)
    density = heat[band, middle].mean() / heat.mean()
    assert density > 1.2
    assert band.start <= np.unravel_index(heat.argmax(), heat.shape)[0] < band.stop


@pytest.mark.parametrize("method", saliency.METHODS)
def test_other_weights_give_another_map(mouth_task: tuple, fresh: keras.Model, method: str) -> None:
    model, images, labels = mouth_task
    heat = saliency.saliency_maps(model, images, labels.tolist(), method)
    again = saliency.saliency_maps(model, images, labels.tolist(), method)
    other = saliency.saliency_maps(fresh, images, labels.tolist(), method)
    np.testing.assert_array_equal(heat, again)
    assert correlation(heat, other) < 0.75


@pytest.mark.parametrize("method", saliency.METHODS)
def test_a_map_does_not_depend_on_its_neighbours(mouth_task: tuple, method: str) -> None:
    model, images, labels = mouth_task
    together = saliency.saliency_maps(model, images[:3], labels[:3].tolist(), method)
    alone = saliency.saliency_maps(model, images[1:2], labels[1:2].tolist(), method)
    # Rounding depends on the batch's size, and where two feature maps are equal it decides which of them the maximum
    # passes the gradient to: single pixels may differ (0.3 % in all), another face's map differs by a third.
    assert np.abs(together[1:2] - alone).sum() < 0.05 * alone.sum()
    assert np.abs(together[:1] - alone).sum() > 0.2 * alone.sum()


def test_without_classes_the_predicted_ones_are_explained(mouth_task: tuple) -> None:
    model, images, labels = mouth_task
    assert saliency.predicted_classes(model, images) == labels.tolist()
    implied = saliency.saliency_maps(model, images[:2])
    np.testing.assert_array_equal(implied, saliency.saliency_maps(model, images[:2], labels[:2].tolist()))


def test_activation_maximization_finds_an_input_of_the_class(mouth_task: tuple) -> None:
    model, _, _ = mouth_task
    best = saliency.activation_maximization(model, [0, 1], steps=12)
    assert best.shape == (2, SIZE, SIZE, 1)
    assert best.min() >= 0 and best.max() <= 1
    assert saliency.predicted_classes(model, best) == [0, 1]


def test_overlay_leaves_cold_places_and_brightens_hot_ones() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[:, 6:] = 1
    picture = saliency.overlay(np.full((16, 16, 1), 0.5, np.float32), heat)
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8
    assert tuple(picture[8, 0]) == (128, 128, 128)
    assert picture[8, 15].sum() > picture[8, 0].sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"method": "gradcam"}, "`method` must be"), ({"classes": [0]}, "`classes` needs 2"), ({"size": 32}, "`images`")],
)
def test_bad_input_says_what_is_wrong(mouth_task: tuple, change: dict, message: str) -> None:
    model, images, _ = mouth_task
    size = change.pop("size", SIZE)
    with pytest.raises(InputError, match=message):
        saliency.saliency_maps(model, images[:2, :size, :size], **change)
