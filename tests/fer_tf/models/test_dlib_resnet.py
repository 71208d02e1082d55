"""Fa-Net on dlib's convolutions: they are the published ones, and every part of the project takes the network."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.data.preprocess import preprocess
from fer_tf.errors import InputError
from fer_tf.evaluation import saliency
from fer_tf.evaluation.saliency import METHODS
from fer_tf.models import fa_net
from fer_tf.models.dlib_resnet import begin_with_published, dlib_resnet
from fer_tf.models.dlib_weights import model_path, weights_of
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.face_features import FaceFeatures

SPEC = FaNetSpec(("happy", "sad", "neutral"), "dlib_resnet", 44, 1, standardize=True, dropout=0.0)


@pytest.fixture(scope="module")
def network():
    model = fa_net.build(SPEC)
    begin_with_published(model)
    return model


def maps_of(model, faces: np.ndarray, layer: str) -> np.ndarray:
    import keras

    return keras.Model(model.inputs, model.get_layer(layer).output).predict_on_batch(faces)


def test_the_first_convolution_is_dlibs_of_what_dlib_takes():
    model = dlib_resnet(3, 96, channels=3)
    begin_with_published(model)
    face = np.random.default_rng(0).random((96, 96, 3), "float32")
    # dlib takes grey levels less their mean, as shares of 256; the window of output (20, 30) begins two pixels before.
    seen = (face * 255 - np.array([122.782, 117.001, 104.298], np.float32)) / 256
    kernel, bias = weights_of(model_path())[0][0]
    by_hand = np.tensordot(seen[38:45, 58:65], kernel, 3) + bias
    np.testing.assert_allclose(maps_of(model, face[None], "conv0")[0, 20, 30], by_hand, atol=1e-4)


def test_a_grey_face_gives_what_its_three_equal_channels_give():
    face = np.random.default_rng(1).random((1, 96, 96, 1), "float32")
    grey, colour = (dlib_resnet(3, 96, channels, standardize=True) for channels in (1, 3))
    for model in (grey, colour):
        begin_with_published(model)
    np.testing.assert_allclose(
        maps_of(grey, face, "maps1"), maps_of(colour, face.repeat(3, axis=-1), "maps1"), atol=1e-3
    )


def test_without_any_training_its_maps_tell_one_person_from_another(network, faces):
    """`faces` are two frames of one person and one of another; LightCNN's fresh maps tell nothing."""
    first, again, other = maps_of(network, preprocess(faces, 44).numpy(), "block13_relu").mean(axis=(1, 2))

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert angle(first, again) * 1.5 < angle(first, other)


@pytest.fixture(scope="module")
def faces(samples: Path) -> np.ndarray:
    from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor

    paths = [samples / "take_1" / person / "happy" / "front.mp4" for person in ("P001", "P003")]
    with contextlib.closing(FaceExtractor(ExtractorOptions(max_keyframes=4))) as extractor:
        clips = [extractor.extract(str(path)) for path in paths]
    return np.stack([clips[0].faces[0].image, clips[0].faces[-1].image, clips[1].faces[-1].image])


def test_the_published_maps_as_a_distance_for_fape_gan_tell_one_person_from_another(faces):
    """FaPE-GAN sees 64 pixels: `faces` are two frames of one person and one of another."""
    small = np.stack([cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA) for face in faces])
    small = small.astype("float32") / 127.5 - 1
    features = FaceFeatures.load("dlib")
    distances = features.distance(small[[0, 0, 0]], small).numpy()
    assert distances[0] == 0 and 1.2 * distances[1] < distances[2]
    assert len(features.maps(small)) == 4


def test_small_faces_are_enlarged_inside_so_that_any_side_from_33_to_48_shares_its_weights():
    shapes = [[w.shape for w in dlib_resnet(7, side).weights] for side in (33, 36, 44, 48, 96)]
    assert all(other == shapes[0] for other in shapes[1:])


@pytest.mark.parametrize("method", METHODS)
def test_it_can_be_explained(network, method, monkeypatch):
    for name in ("SMOOTH_SAMPLES", "SCORE_CHANNELS"):
        monkeypatch.setattr(saliency, name, 2)
    faces = np.random.default_rng(2).random((2, 44, 44, 1), "float32")
    maps = saliency.saliency_maps(network, faces, [0, 1], method)
    assert maps.shape == (2, 44, 44) and maps.max() == pytest.approx(1.0, abs=1e-4)


def test_it_is_kept_in_eight_bits_and_compares_faces_for_the_gan(network, tmp_path):
    fa_net.save(str(tmp_path), network, SPEC, storage="int8")
    model, spec = fa_net.load(str(tmp_path))
    faces = np.random.default_rng(3).random((2, 44, 44, 1), "float32")
    exact, kept = network.predict_on_batch(faces), model.predict_on_batch(faces)
    assert spec == SPEC and np.abs(kept - exact).max() < 0.1 * np.abs(exact).max()
    first, second = (np.random.default_rng(seed).random((1, 64, 64, 3), "float32") * 2 - 1 for seed in (4, 5))
    features = FaceFeatures(model, spec)
    assert float(features.distance(first, first)[0]) == 0.0 < float(features.distance(first, second)[0])


def test_what_cannot_be_built_is_named():
    with pytest.raises(InputError, match=r"`image_size` must be at least 16 pixels\. Received: 8"):
        dlib_resnet(3, 8)
    with pytest.raises(InputError, match=r"`num_classes` must be at least 2\. Received: 1"):
        dlib_resnet(1, 44)
