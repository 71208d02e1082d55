"""FaPE-GAN's networks and training step."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.errors import InputError
from fer_tf.models import fape_gan, losses
from fer_tf.models.fape_gan import FapeGan, spec_of
from fer_tf.models.gan_layers import SpectralConv2D
from tests import programs

SIZE = 16


def batch_of(count: int = 4, size: int = SIZE, seed: int = 0) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    faces = rng.uniform(-1, 1, (2, count, size, size, 3)).astype(np.float32)
    mask = rng.uniform(0, 1, (count, size, size, 1)).astype(np.float32)
    return {"source": tf.constant(faces[0]), "target": tf.constant(faces[1]), "mask": tf.constant(mask)}


def compiled(recipe: str = "paper", loss_scale: bool = False, **changes: float) -> FapeGan:
    gan = FapeGan(spec_of(recipe, SIZE, 4, **changes), seed=1)
    gan.compile(loss_scale=loss_scale)
    return gan


@pytest.mark.parametrize("size", fape_gan.IMAGE_SIZES)
@pytest.mark.parametrize("recipe", fape_gan.RECIPES)
def test_every_size_gives_faces_of_that_size_and_verdicts_by_patch(size: int, recipe: str) -> None:
    spec = spec_of(recipe, size, 2)
    source, mask = keras.Input((size, size, 3)), keras.Input((size, size, 1))
    assert fape_gan.generator(spec)([source, mask]).shape == (None, size, size, 3)
    assert fape_gan.discriminator(spec)([source, mask])[0].shape == (None, size // 8, size // 8, 1)


def test_faces_lie_between_minus_one_and_one() -> None:
    faces = FapeGan(spec_of("paper", SIZE, 4))(batch_of())
    assert faces.dtype == tf.float32
    assert float(tf.reduce_max(tf.abs(faces))) <= 1.0


@pytest.mark.parametrize("recipe", fape_gan.RECIPES)
def test_a_seed_gives_the_same_weights_and_another_seed_others(recipe: str) -> None:
    first, again, other = (FapeGan(spec_of(recipe, SIZE, 4), seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    # Biases, norms and the attention's gain begin alike, whatever the seed.
    kernels = [(a, b) for a, b in zip(first, other, strict=True) if a.ndim >= 2]
    assert len(kernels) >= 10 and not any(np.array_equal(a, b) for a, b in kernels)


def test_the_mask_and_the_source_both_reach_the_face() -> None:
    model, batch, other = fape_gan.generator(spec_of("paper", SIZE, 4)), batch_of(), batch_of(seed=1)
    face = model([batch["source"], batch["mask"]])
    assert not np.allclose(face, model([other["source"], batch["mask"]]))
    assert not np.allclose(face, model([batch["source"], other["mask"]]))


def test_the_paper_discriminator_does_not_see_the_mask() -> None:
    batch, other = batch_of(), batch_of(seed=1)
    for recipe, sees in (("paper", False), ("best", True)):
        model = fape_gan.discriminator(spec_of(recipe, SIZE, 4))
        same = np.allclose(model([batch["target"], batch["mask"]])[0], model([batch["target"], other["mask"]])[0])
        assert same is not sees


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("better", 64, 8), "recipe"), (("paper", 48, 8), "gan_image_size"), (("paper", 64, 0), "gan_channels")],
)
def test_a_bad_spec_is_named(arguments: tuple, named: str) -> None:
    with pytest.raises(InputError, match=named):
        spec_of(*arguments)


def test_the_paper_recipe_is_the_paper() -> None:
    spec = spec_of("paper", 128, 64)
    assert (spec.l1_weight, spec.learning_rate, spec.beta_1, spec.beta_2) == (10.0, 2e-4, 0.5, 0.999)
    assert not (spec.spectral_norm or spec.sees_mask or spec.attention or spec.feature_weight or spec.ema)


def test_one_step_reports_the_losses_of_equations_1_to_3() -> None:
    gan, batch = compiled(), batch_of()
    generated = gan(batch, training=True)
    real, fake = (gan.discriminator([faces, batch["mask"]])[0] for faces in (batch["target"], generated))
    expected = float(tf.reduce_mean(losses.discriminator_adversarial(real, fake)))
    found = gan.train_step(batch)
    assert float(found["discriminator_loss"]) == pytest.approx(expected, rel=1e-5)
    # The generator is judged by the discriminator of after its own step.
    after = float(tf.reduce_mean(losses.generator_adversarial(gan.discriminator([generated, batch["mask"]])[0])))
    distance = float(np.mean(np.abs(batch["target"] - generated)))
    assert float(found["generator_l1"]) == pytest.approx(distance, rel=1e-5)
    assert float(found["generator_loss"]) == pytest.approx(after + 10 * distance, rel=1e-4)


def test_each_step_moves_both_networks() -> None:
    gan = compiled("best")
    begun = [network.get_weights() for network in (gan.generator, gan.discriminator)]
    gan.train_step(batch_of())
    for network, weights in zip((gan.generator, gan.discriminator), begun, strict=True):
        rest = {
            weight.path
            for weight, before in zip(network.weights, weights, strict=True)
            if np.array_equal(weight, before)
        }
        # Only what lies behind the attention's gain, zero at first, may rest.
        assert rest <= {f"down1_attention/{name}" for name in ("query", "key", "value")}


def test_changes_before_the_discriminator_are_the_steps_own_and_reach_both_networks() -> None:
    weights = []
    for augment in (False, True, True):
        gan = compiled("best", augment=augment)
        gan.train_step(batch_of())
        weights.append([network.get_weights() for network in (gan.generator, gan.discriminator)])
    plain, changed, again = weights
    for network in (0, 1):
        assert all(np.array_equal(a, b) for a, b in zip(changed[network], again[network], strict=True))
        assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(plain[network], changed[network], strict=True))
    # The distance to the target is of unchanged faces.
    gan, batch = compiled("best", augment=True), batch_of()
    distance = float(np.mean(np.abs(batch["target"] - gan(batch, training=True))))
    # As `fit` traces it: the step's changes are drawn from a tensor.
    assert float(tf.function(gan.train_step)(batch)["generator_l1"]) == pytest.approx(distance, rel=1e-5)


def test_the_generator_learns_to_follow_the_mask() -> None:
    gan, batch = compiled(learning_rate=5e-3), batch_of(8)
    # Half of the masks are white on the left, half on the right; the face to be made is that pattern.
    left = np.zeros((SIZE, SIZE, 1), np.float32)
    left[:, : SIZE // 2] = 1
    batch["mask"] = tf.constant(np.stack([left, 1 - left] * 4))
    batch["target"] = tf.repeat(2 * batch["mask"] - 1, 3, axis=-1)
    step = tf.function(gan.train_step)
    for _ in range(40):
        step(batch)
    distances = losses.l1(batch["target"], gan(batch))
    # A face that ignores its mask is 1 away on average.
    assert float(tf.reduce_max(distances)) < 0.5


def test_the_moving_average_follows_its_formula() -> None:
    gan, batch = compiled("best", ema=0.24), batch_of()
    weights = []
    for _ in range(3):
        weights.append([np.array(variable) for variable in gan.generator.trainable_variables])
        gan.train_step(batch)
    weights.append([np.array(variable) for variable in gan.generator.trainable_variables])
    for average, *steps in zip(gan.averaged_generator().trainable_variables, *weights, strict=True):
        expected = steps[0]
        # The decay after step n is (1 + n) / (10 + n), at most the given one: 2/11, then 3/12 becomes 0.24.
        for decay, weight in zip((2 / 11, 0.24, 0.24), steps[1:], strict=True):
            expected = decay * expected + (1 - decay) * weight
        np.testing.assert_allclose(average, expected, atol=1e-6)


def test_without_averaging_the_weights_themselves_are_kept() -> None:
    gan = compiled()
    gan.train_step(batch_of())
    for kept, weight in zip(gan.averaged_generator().get_weights(), gan.generator.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    layer = SpectralConv2D(6, 3, padding="same", use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 5)).astype(np.float32)
    layer.build(x.shape)
    # One direction dominates, so that few iterations of the power method find it.
    kernel = np.array(layer.kernel)
    kernel += 2 * np.random.default_rng(1).normal(size=(45, 1)).reshape(3, 3, 5, 1).astype(np.float32)
    layer.kernel.assign(kernel)
    sigma = np.linalg.svd(kernel.reshape(-1, 6), compute_uv=False)[0]
    np.testing.assert_allclose(layer(x), tf.nn.conv2d(x, kernel / sigma, 1, "SAME"), rtol=1e-3, atol=1e-4)


def test_spectral_norm_of_a_fresh_kernel_is_at_most_a_tenth_above_one() -> None:
    layer = SpectralConv2D(128, 4, padding="same", use_bias=False, kernel_initializer="random_normal")
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 64)).astype(np.float32)
    layer.build(x.shape)
    kernel = np.array(layer.kernel)
    sigma = np.linalg.svd(kernel.reshape(-1, 128), compute_uv=False)[0]
    ratio = np.linalg.norm(layer(x)) / np.linalg.norm(tf.nn.conv2d(x, kernel / sigma, 1, "SAME"))
    assert 1.0 < ratio < 1.12


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_with_float32_weights_and_finite_losses(policy: str) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        gan = compiled("best", loss_scale=policy == "mixed_float16")
        batch = batch_of()
        start = gan.generator.get_weights()
        for _ in range(3):
            found = gan.train_step(batch)
    finally:
        keras.config.set_dtype_policy(before)
    assert all(np.isfinite(float(value)) for value in found.values())
    assert {weight.dtype for weight in gan.generator.weights} == {"float32"}
    assert not np.array_equal(start[0], gan.generator.get_weights()[0])


def test_the_loss_scale_does_not_change_the_step() -> None:
    # In float32 a scaled loss and its unscaled gradients must give the very step of an unscaled one.
    plain, scaled = compiled(), compiled(loss_scale=True)
    batch = batch_of()
    plain.train_step(batch)
    scaled.train_step(batch)
    for a, b in zip(plain.generator.get_weights(), scaled.generator.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


REPLICAS = """
import json, sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from fer_tf.models.fape_gan import FapeGan, spec_of
from tests.fer_tf.models.test_fape_gan import batch_of
# One strategy for both: two in one process would number their collective operations alike, and clash.
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
weights = []
for strategy in (tf.distribute.get_strategy(), mirrored):
    with strategy.scope():
        gan = FapeGan(spec_of({recipe!r}, 16, 4), seed=1)
        gan.compile()
    dataset = tf.data.Dataset.from_tensor_slices(batch_of(8)).batch(4, drop_remainder=True)
    history = gan.fit(dataset, epochs=1, shuffle=False, verbose=0).history
    average = gan.averaged_generator()
    weights.append([*gan.generator.get_weights(), *gan.discriminator.get_weights(), *average.get_weights()])
apart = max(float(np.abs(a - b).max()) for a, b in zip(*weights))
losses = {{name: values[-1] for name, values in history.items()}}
print("RESULT" + json.dumps([apart, strategy.num_replicas_in_sync, losses]))
"""


# `best` has all that `paper` has, and more.
@pytest.mark.parametrize("recipe", ["best", pytest.param("paper", marks=pytest.mark.slow)])
def test_two_replicas_equal_one_on_the_same_global_batch(recipe: str) -> None:
    # In a process of its own: devices cannot be split once TensorFlow has started.
    done = programs.run(REPLICAS.format(recipe=recipe), environment={"CUDA_VISIBLE_DEVICES": "-1"})
    assert done.returncode == 0, done.stderr[-2000:]
    apart, replicas, losses = json.loads(done.stdout.split("RESULT")[1])
    assert replicas == 2
    # Two of Adam's steps are 4e-4 for each weight, however small its gradient: rounding is far below, an error in how
    # replicas are added up is not.
    assert apart < 1e-5
    assert 0 < losses["generator_l1"] < 2


@pytest.mark.parametrize("remote", [False, True])
def test_a_saved_generator_gives_the_same_faces(tmp_path: Path, remote: bool) -> None:
    folder = "ram://fape_gan_test/model" if remote else str(tmp_path / "model")
    spec = spec_of("best", SIZE, 4)
    model, batch = fape_gan.generator(spec, seed=5), batch_of()
    fape_gan.save_generator(folder, model, spec)
    loaded, found = fape_gan.load_generator(folder)
    assert found == spec
    assert sorted(tf.io.gfile.listdir(folder)) == [fape_gan.GENERATOR_FILE, fape_gan.SPEC_FILE]
    inputs = [batch["source"], batch["mask"]]
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_a_generator_of_version_0_1_loads(tmp_path: Path) -> None:
    model = fape_gan.generator(spec_of("paper", 64, 4), seed=3)
    fape_gan.save_generator(str(tmp_path), model, spec_of("paper", 64, 4))
    path = tmp_path / fape_gan.SPEC_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "hinge": False}))
    assert fape_gan.load_generator(str(tmp_path))[1] == spec_of("paper", 64, 4)


def test_a_missing_or_foreign_generator_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trained FaPE-GAN"):
        fape_gan.load_generator(str(tmp_path))
    (tmp_path / fape_gan.SPEC_FILE).write_text('{"image_size": 64, "depth": 3}')
    with pytest.raises(InputError, match="not a FaPE-GAN spec"):
        fape_gan.load_generator(str(tmp_path))
