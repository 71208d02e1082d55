"""FaPE-GAN (section 4.2): a generator that gives a face a new pose, and the discriminator that judges it by patches."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from fer_tf import files
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import RECIPES
from fer_tf.models import diff_augment, losses
from fer_tf.models.face_features import FaceFeatures
from fer_tf.models.gan_layers import First, SelfAttention, SpectralConv2D
from fer_tf.models.loss_scale import LossScaleOptimizer
from fer_tf.run_folder import SPEC_FILE

IMAGE_SIZES = (64, 128, 256)
# The smallest map of the generator, and the most channels of any map as a multiple of `base_channels`.
BOTTLENECK = 4
MAX_WIDENING = 8
GENERATOR_FILE = "generator.weights.h5"


@dataclass(frozen=True)
class GanSpec:
    """What a FaPE-GAN is; saved as `spec.json` beside the generator's weights.

    Attributes:
      image_size: side of the faces it reads and writes, pixels; a power of two from 16, normally 64, 128 or 256.
      base_channels: channels of the widest maps; the others are multiples of it.
      recipe: `paper` (equations 1 to 3 as printed) or `best`.
      l1_weight: lambda of equation 3.
      feature_weight: weight of the match of the discriminator's inner maps; 0 leaves it out.
      face_weight: weight of the distance on the inner maps of the Fa-Net that `FapeGan` is given; 0 leaves it out.
      spectral_norm: whether the discriminator's kernels are divided by about their largest singular value.
      sees_mask: whether the discriminator also sees the pose mask.
      attention: whether the generator's 8 x 8 map has self-attention.
      augment: whether the discriminator sees faces and masks changed at random (see `diff_augment`).
      ema: decay of the generator's moving average, 0 to 1; 0 keeps none.
      learning_rate, beta_1, beta_2: Adam's, for both networks.
    """

    image_size: int = 128
    base_channels: int = 64
    recipe: str = "paper"
    l1_weight: float = losses.L1_WEIGHT
    feature_weight: float = 0.0
    face_weight: float = 0.0
    spectral_norm: bool = False
    sees_mask: bool = False
    attention: bool = False
    augment: bool = False
    ema: float = 0.0
    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999


BEST = {"sees_mask": True, "spectral_norm": True, "feature_weight": 2.0, "attention": True, "ema": 0.999}


def spec_of(recipe: str, image_size: int, base_channels: int, **changes: Any) -> GanSpec:
    """Returns a recipe's spec.

    Raises:
      InputError: for an unknown recipe, or a size that cannot be halved down to the 4 x 4 bottleneck.
    """
    if recipe not in RECIPES:
        raise not_one_of("recipe", recipe, RECIPES)
    if image_size < 16 or image_size & (image_size - 1):
        raise InputError(
            f"`gan_image_size` must be a power of two from 16, normally one of {IMAGE_SIZES}. Received: {image_size}."
        )
    if base_channels < 1:
        raise InputError(f"`gan_channels` must be at least 1. Received: {base_channels}.")
    options = {**(BEST if recipe == "best" else {}), **changes}
    return GanSpec(image_size=image_size, base_channels=base_channels, recipe=recipe, **options)


class _Seeds:
    """Gives each kernel its own seed, so that a seed gives the same weights."""

    def __init__(self, seed: int) -> None:
        self._next = seed * 1000

    def normal(self) -> keras.initializers.Initializer:
        self._next += 1
        return keras.initializers.RandomNormal(stddev=0.02, seed=self._next)


def _widths(spec: GanSpec) -> list[int]:
    """Channels of the encoder's maps, from S/2 down to 4 x 4."""
    depth = (spec.image_size // BOTTLENECK).bit_length() - 1
    return [spec.base_channels * min(2**level, MAX_WIDENING) for level in range(depth)]


def generator(spec: GanSpec, seed: int = 0) -> keras.Model:
    """Returns the encoder-decoder with skips: (source face, target mask) to the face in the target's pose.

    Args:
      spec: the GAN's spec.
      seed: seed of the initial weights.

    Returns:
      keras.Model: [float (B, S, S, 3) values -1 to 1, float (B, S, S, 1) values 0 to 1] to float32 (B, S, S, 3),
      values -1 to 1.
    """
    size, seeds = spec.image_size, _Seeds(seed)
    source = keras.Input((size, size, 3), name="source")
    mask = keras.Input((size, size, 1), name="mask")
    x = keras.layers.Concatenate(name="stack")([source, mask])  # (B, S, S, 4)
    skips = []
    for level, width in enumerate(_widths(spec), 1):
        x = _conv(x, width, 4, 2, seeds, f"down{level}_conv", bias=level == 1)
        if level > 1:
            x = _norm(x, f"down{level}_norm")
        x = keras.layers.LeakyReLU(0.2, name=f"down{level}_relu")(x)
        if spec.attention and x.shape[1] == 8:
            x = SelfAttention(seed * 1000 + 900, name=f"down{level}_attention")(x)
        skips.append(x)
    x = _conv(skips.pop(), x.shape[-1], 3, 1, seeds, "bottleneck_conv", bias=False)  # (B, 4, 4, 8 * base)
    x = keras.layers.ReLU(name="bottleneck_relu")(_norm(x, "bottleneck_norm"))
    for level in range(len(skips), 0, -1):
        skip = skips.pop()
        # Enlarge and convolve: a transposed convolution leaves a checkerboard on skin.
        x = keras.layers.UpSampling2D(2, name=f"up{level}_enlarge")(x)
        x = keras.layers.Concatenate(name=f"up{level}_skip")([x, skip])
        x = _norm(_conv(x, skip.shape[-1], 3, 1, seeds, f"up{level}_conv", bias=False), f"up{level}_norm")
        x = keras.layers.ReLU(name=f"up{level}_relu")(x)
    x = keras.layers.UpSampling2D(2, name="image_enlarge")(x)  # (B, S, S, base)
    x = _conv(x, 3, 3, 1, seeds, "image_conv")
    face = keras.layers.Activation("tanh", dtype="float32", name="image")(x)
    return keras.Model([source, mask], face, name="generator")


def discriminator(spec: GanSpec, seed: int = 0) -> keras.Model:
    """Returns the patch discriminator.

    Args:
      spec: the GAN's spec.
      seed: seed of the initial weights.

    Returns:
      keras.Model: [float (B, S, S, 3) face, float (B, S, S, 1) mask] to [float32 logits (B, S/8, S/8, 1), inner
      maps...]; without `sees_mask` the mask is ignored, as in equation 1.
    """
    size, seeds = spec.image_size, _Seeds(seed + 500)
    face = keras.Input((size, size, 3), name="face")
    mask = keras.Input((size, size, 1), name="mask")
    x = (keras.layers.Concatenate(name="stack") if spec.sees_mask else First(name="face_alone"))([face, mask])
    inner = []
    for level, (widening, stride) in enumerate(((1, 2), (2, 2), (4, 2), (8, 1)), 1):
        normed = level > 1 and not spec.spectral_norm
        width = spec.base_channels * widening
        x = _conv(x, width, 4, stride, seeds, f"patch{level}_conv", spectral=spec.spectral_norm, bias=not normed)
        x = _norm(x, f"patch{level}_norm") if normed else x
        x = keras.layers.LeakyReLU(0.2, name=f"patch{level}_relu")(x)
        inner.append(x)
    x = _conv(x, 1, 4, 1, seeds, "verdict_conv", spectral=spec.spectral_norm)
    logits = keras.layers.Activation("linear", dtype="float32", name="verdict")(x)  # (B, S/8, S/8, 1)
    return keras.Model([face, mask], [logits, *inner], name="discriminator")


def _conv(
    x: Any, width: int, kernel: int, stride: int, seeds: _Seeds, name: str, *, spectral: bool = False, bias: bool = True
) -> Any:
    layer = SpectralConv2D if spectral else keras.layers.Conv2D
    options = {"padding": "same", "use_bias": bias, "kernel_initializer": seeds.normal()}
    return layer(width, kernel, stride, name=name, **options)(x)


def _norm(x: Any, name: str) -> Any:
    # A bias before it would have no gradient but noise, which Adam turns into whole steps, other ones on each replica.
    # Instance normalization: no statistics over the batch, so two replicas equal one.
    return keras.layers.GroupNormalization(groups=-1, epsilon=1e-5, name=name)(x)


class FapeGan(keras.Model):
    """Both networks and one training step (equations 1 to 3).

    A batch is a dict: `source` and `target`, float (B, S, S, 3), values -1 to 1; `mask`, float (B, S, S, 1), the
    target's landmark mask, values 0 to 1.

    Args:
      spec: the GAN's spec.
      seed: seed of the initial weights.
      face_features: the Fa-Net of the spec's `face_weight`; None without it.

    Raises:
      InputError: a `face_weight` without the Fa-Net.
    """

    def __init__(self, spec: GanSpec, seed: int = 0, face_features: FaceFeatures | None = None) -> None:
        super().__init__(name="fape_gan")
        if spec.face_weight and face_features is None:
            raise InputError(f"`face_weight` {spec.face_weight} needs `face_features`.")
        self._face_features = face_features
        self._seed = seed
        self.spec = spec
        self.generator = generator(spec, seed)
        self.discriminator = discriminator(spec, seed)
        # Not the optimizer's own average: that one has no warm-up and keeps the random start for long.
        self.average = [
            self.add_weight(variable.shape, "zeros", trainable=False, aggregation="mean", name=f"average_{index}")
            for index, variable in enumerate(self.generator.trainable_variables if spec.ema else [])
        ]
        for average, variable in zip(self.average, self.generator.trainable_variables, strict=False):
            average.assign(variable)
        names = ("generator_loss", "generator_l1", "generator_adversarial", "discriminator_loss")
        self.trackers = {name: keras.metrics.Mean(name) for name in (*names, "discriminator_accuracy")}

    def compile(self, *, loss_scale: bool = False, **options: Any) -> None:
        """Makes the two optimizers and their slots.

        Args:
          loss_scale: whether the losses are scaled, as float16 needs.
          **options: for `keras.Model.compile`, such as `steps_per_execution`.
        """
        super().compile(jit_compile=options.pop("jit_compile", False), **options)
        self.generator_optimizer = self._optimizer(loss_scale)
        self.discriminator_optimizer = self._optimizer(loss_scale)
        # Built now: a checkpoint restored into an optimizer without slots would leave them fresh.
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def _optimizer(self, loss_scale: bool) -> keras.optimizers.Optimizer:
        adam = keras.optimizers.Adam(self.spec.learning_rate, self.spec.beta_1, self.spec.beta_2)
        return LossScaleOptimizer(adam) if loss_scale else adam

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.trackers.values())

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the generated faces of a batch; float32 (B, S, S, 3), values -1 to 1."""
        return self.generator([inputs["source"], inputs["mask"]], training=training)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One update of the discriminator, then one of the generator against it."""
        target, mask = batch["target"], batch["mask"]
        with tf.GradientTape() as generator_tape:
            generated = self(batch, training=True)
            with generator_tape.stop_recording():
                discriminator_loss = self._train_discriminator(target, generated, mask)
            terms = self._generator_terms(target, generated, mask)
            loss = losses.global_mean(terms["generator_loss"], self._replicas())
            scaled = self.generator_optimizer.scale_loss(loss)
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply_gradients(
            zip(generator_tape.gradient(scaled, variables), variables, strict=True)
        )
        self._move_average()
        for name, value in {**terms, **discriminator_loss}.items():
            self.trackers[name].update_state(value)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def _move_average(self) -> None:
        # A young average forgets faster, so that it does not hold the random start for a thousand steps.
        step = tf.cast(self.generator_optimizer.iterations, tf.float32)
        decay = tf.minimum(self.spec.ema, (1 + step) / (10 + step))
        for average, variable in zip(self.average, self.generator.trainable_variables, strict=False):
            average.assign(decay * average + (1 - decay) * variable)

    def _train_discriminator(self, target: Any, generated: Any, mask: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            # One pass over real and generated faces together.
            faces = tf.concat([tf.cast(target, generated.dtype), generated], 0)
            logits = self.discriminator(self._seen(faces, tf.concat([mask, mask], 0), 0), training=True)[0]
            real, fake = tf.split(logits, 2)
            per_image = losses.discriminator_adversarial(real, fake)
            loss = losses.global_mean(per_image, self._replicas())
            scaled = self.discriminator_optimizer.scale_loss(loss)
        variables = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        right = tf.concat([real > 0, fake <= 0], 0)
        return {"discriminator_loss": per_image, "discriminator_accuracy": tf.cast(right, tf.float32)}

    def _seen(self, faces: Any, masks: Any, draw: int) -> list[Any]:
        """What the discriminator sees of faces and their masks; a function of the step, so that a run can go on.

        Each replica draws its own changes.
        """
        if not self.spec.augment:
            return [faces, masks]
        step = tf.cast(self.generator_optimizer.iterations, tf.int32)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        draw = (2 * step + draw) * self._replicas() + replica
        return [*diff_augment.changed(faces, masks, tf.stack([self._seed, draw]))]

    def _generator_terms(self, target: Any, generated: Any, mask: Any) -> dict[str, Any]:
        """Returns equation 3's terms, each float32 (B,)."""
        spec = self.spec
        fake, *inner = self.discriminator(self._seen(generated, mask, 1), training=True)
        adversarial = losses.generator_adversarial(fake)
        distance = losses.l1(target, generated)
        total = adversarial + spec.l1_weight * distance
        if spec.feature_weight:
            # Changed as the generated faces are, so that the maps can be compared.
            real_inner = self.discriminator(self._seen(target, mask, 1), training=True)[1:]
            total += spec.feature_weight * losses.feature_matching(real_inner, inner)
        if spec.face_weight:
            total += spec.face_weight * self._face_features.distance(target, generated)
        return {"generator_loss": total, "generator_l1": distance, "generator_adversarial": adversarial}

    def _replicas(self) -> int:
        return tf.distribute.get_strategy().num_replicas_in_sync

    def averaged_generator(self) -> keras.Model:
        """Returns a generator with the moving average of the weights, or the weights themselves without EMA."""
        copy = generator(self.spec)
        copy.set_weights(self.generator.get_weights())
        for variable, average in zip(copy.trainable_variables, self.average, strict=False):
            variable.assign(average.numpy())
        return copy


def save_generator(folder: str, model: keras.Model, spec: GanSpec) -> None:
    """Writes a generator's weights and spec; each appears under its final name only when it is complete.

    Args:
      folder: any folder, local or such as `gs://`.
      model: the generator.
      spec: its spec.

    Raises:
      CannotWrite: when the disk is full; what the folder held before is intact.
    """
    with files.whole_local(files.join(folder, GENERATOR_FILE)) as path:
        model.save_weights(path)
    files.write_json(files.join(folder, SPEC_FILE), dataclasses.asdict(spec))


def load_generator(folder: str) -> tuple[keras.Model, GanSpec]:
    """Returns a saved generator and its spec.

    Raises:
      InputError: when there is none, or its spec has an unknown or missing field.
    """
    path = files.join(folder, SPEC_FILE)
    try:
        values = files.read_json(path)
        # Version 0.1 wrote this choice of loss, which no recipe made; the generator is the same with it.
        values.pop("hinge", None)
        spec = GanSpec(**values)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"no trained FaPE-GAN in {folder!r}: {SPEC_FILE} is missing; run trainer.task --stage=fape_gan first"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a FaPE-GAN spec: {error}") from None
    model = generator(spec)
    with files.local_copy(files.join(folder, GENERATOR_FILE)) as path:
        model.load_weights(path)
    return model, spec


def hash_of(folder: str) -> str:
    """Returns a hash of a saved generator's weights and spec, 16 hexadecimal digits; raises InputError without one."""
    try:
        content = [files.read_bytes(files.join(folder, name)) for name in (GENERATOR_FILE, SPEC_FILE)]
    except FileNotFoundError:
        raise InputError(
            f"no trained FaPE-GAN in {folder!r}: a file is missing; run trainer.task --stage=fape_gan first"
        ) from None
    return hashlib.sha256(b"".join(content)).hexdigest()[:16]
