"""A Fa-Net on disk is the network it was, on any filesystem, in every number format."""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.errors import InputError
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec

SPEC = FaNetSpec(("angry", "happy", "sad"), image_size=16, temperature=1.5)


@pytest.fixture(scope="module")
def model():
    network = fa_net.build(SPEC, seed=3)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if layer.name.endswith("_norm"):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, rng.normal(0, 0.1, mean.shape), rng.uniform(0.5, 2, variance.shape)])
    return network


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((8, 16, 16, 1), np.float32)


@pytest.mark.parametrize("remote", [False, True])
def test_a_saved_network_answers_the_same(model, images, tmp_path, remote):
    folder = "ram://fa_net_test/model" if remote else str(tmp_path / "model")
    fa_net.save(folder, model, SPEC)
    loaded, spec = fa_net.load(folder)
    assert spec == SPEC
    np.testing.assert_array_equal(loaded(images).numpy(), model(images).numpy())
    assert not [name for name in tf.io.gfile.listdir(folder) if "partial" in name]


@pytest.mark.parametrize(("storage", "share", "tolerance"), [("float16", 0.55, 0.01), ("int8", 0.3, 0.1)])
@pytest.mark.parametrize("remote", [False, True])
def test_fewer_bits_shrink_the_file_and_hardly_move_answers(model, images, tmp_path, storage, share, tolerance, remote):
    fa_net.save(str(tmp_path / "full"), model, SPEC)
    folder = f"ram://fa_net_test/{storage}" if remote else str(tmp_path / "less")
    fa_net.save(folder, model, SPEC, storage=storage)
    sizes = [tf.io.gfile.stat(f"{name}/{fa_net.WEIGHTS_FILE}").length for name in (tmp_path / "full", folder)]
    assert sizes[1] < share * sizes[0]
    loaded, _ = fa_net.load(folder)
    assert all(weight.dtype == "float32" for weight in loaded.weights)
    answer, expected = loaded(images).numpy(), model(images).numpy()
    assert 0 < np.abs(answer - expected).max() < tolerance * np.abs(expected).max()


def test_an_int8_kernel_is_off_by_half_a_step_of_its_channel_at_most(model, tmp_path):
    kernel = model.get_layer("stage2_conv").get_weights()[0]
    # Channels of very different size, and one that is all zero.
    kernel *= np.geomspace(1e-6, 1e3, kernel.shape[-1], dtype=np.float32)
    kernel[..., 5] = 0.0
    changed = keras.models.clone_model(model)
    changed.set_weights(model.get_weights())
    changed.get_layer("stage2_conv").set_weights([kernel])
    fa_net.save(str(tmp_path), changed, SPEC, storage="int8")
    loaded, _ = fa_net.load(str(tmp_path))
    error = np.abs(loaded.get_layer("stage2_conv").get_weights()[0] - kernel).max((0, 1, 2))
    largest = np.abs(kernel).max((0, 1, 2))
    assert (error <= largest / 254 * 1.001).all() and error[6] > 0
    for ours, theirs in zip(loaded.weights, changed.weights, strict=True):
        if ours.ndim < 2:
            np.testing.assert_array_equal(ours, theirs)


def test_scales_that_do_not_fit_their_kernel_are_refused(model, tmp_path):
    fa_net.save(str(tmp_path), model, SPEC, storage="int8")
    with h5py.File(tmp_path / fa_net.WEIGHTS_FILE, "r+") as file:
        del file["scales/stage2_conv/kernel"]
        file["scales/stage2_conv/kernel"] = np.ones(3, np.float32)
    with pytest.raises(InputError, match=r"stage2_conv/kernel has the shape \(3,\), its kernel \(3, 3, 96, 384\)"):
        fa_net.load(str(tmp_path))


def test_what_is_wrong_with_a_folder_is_said(model, tmp_path):
    with pytest.raises(InputError, match=r"spec\.json is missing; run trainer\.task first"):
        fa_net.load(str(tmp_path))
    fa_net.save_spec(str(tmp_path), SPEC)
    with pytest.raises(InputError, match=r"best\.weights\.h5 is missing"):
        fa_net.load(str(tmp_path))
    fa_net.save(str(tmp_path), model, SPEC)
    with open(tmp_path / fa_net.WEIGHTS_FILE, "r+b") as file:
        file.truncate(5000)
    with pytest.raises(InputError, match="damaged"):
        fa_net.load(str(tmp_path))
    (tmp_path / fa_net.SPEC_FILE).write_text('{"expressions": ["a", "b"], "colour": 1}')
    with pytest.raises(InputError, match=r"is not a Fa-Net spec.*colour"):
        fa_net.load(str(tmp_path))
