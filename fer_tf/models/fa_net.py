"""Fa-Net on disk: a LightCNN's weights beside everything that is needed to use them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fer_tf import files
from fer_tf.errors import InputError, not_one_of
from fer_tf.run_folder import PLUS, SPEC_FILE, WEIGHTS_FILE, network_folders

if TYPE_CHECKING:
    import keras

# Group of a weights file: what to multiply each output channel of a kernel with, by the kernel's path.
SCALES = "scales"

Storage = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class FaNetSpec:
    """What a Fa-Net is and how to use it; saved as `spec.json` beside the weights.

    Attributes:
      expressions: label names; a class's id is its position.
      variant: which network, one of `VARIANTS`.
      image_size: side of the network's input, pixels.
      channels: 1 (grey) or 3 (RGB).
      crop: share of a training picture's side that `preprocess` keeps, 0 to 1.
      aligned_crop: the same of an aligned face (see `fer_tf.faces.align`), where the network was trained on pictures
        that others cut, such as FER2013's; 0 where it is `crop`.
      batch_norm: whether the network has batch normalization.
      blur: standard deviation of the Gaussian that the network begins with, pixels; 0 blurs nothing.
      standardize: whether the network begins by giving each image mean 0 and variance 1.
      dropout: rate before the head.
      temperature: logits are divided by it before the softmax; fitted on the validation part where there was one.
      task: the task that it was trained for.
      data_fingerprint: the training data's fingerprint.
      landmark_model: what aligned the training faces, or `none`.
    """

    expressions: tuple[str, ...]
    variant: str = "light_cnn_9"
    image_size: int = 128
    channels: int = 1
    crop: float = 1.0
    aligned_crop: float = 0.0
    batch_norm: bool = True
    blur: float = 0.0
    standardize: bool = False
    dropout: float = 0.5
    temperature: float = 1.0
    task: str = ""
    data_fingerprint: str = ""
    landmark_model: str = "none"

    @property
    def num_classes(self) -> int:
        return len(self.expressions)

    @property
    def served_crop(self) -> float:
        """Share of an aligned face's side that the network sees."""
        return self.aligned_crop or self.crop

    def window(self, aligned: bool) -> float:
        """Returns the share of a face's side that the network sees.

        Args:
          aligned: of a face as this project aligns it, such as a user's, the four tasks' and FaPE-GAN's; else of a
            picture as those that the network was trained on.
        """
        return self.served_crop if aligned else self.crop

    @property
    def picture_share(self) -> float:
        """Side of a training picture as a share of the side of the crop that would be aligned around its face."""
        return picture_share(self.crop, self.aligned_crop)


def picture_share(crop: float, aligned_crop: float) -> float:
    """Returns `FaNetSpec.picture_share` of a spec's fields."""
    return (aligned_crop or crop) / crop


@dataclass(frozen=True)
class Variant:
    """A network that can be a Fa-Net.

    Attributes:
      build: makes it, with fresh weights, of a spec, the variances of fresh kernels (see `light_cnn`) and a seed.
      begin: fills a fresh one with published weights; None where it begins at random.
      words: what a model card says of it after its name.
    """

    build: Callable[[FaNetSpec, tuple[float, float], int], keras.Model]
    begin: Callable[[keras.Model], None] | None
    words: str


def _light_cnn(spec: FaNetSpec, kernel_variance: tuple[float, float], seed: int) -> keras.Model:
    from fer_tf.models.light_cnn import light_cnn

    options = {**_options(spec), "batch_norm": spec.batch_norm, "kernel_variance": kernel_variance}
    return light_cnn(spec.variant, *_sizes(spec), **options, seed=seed)


def _dlib_resnet(spec: FaNetSpec, kernel_variance: tuple[float, float], seed: int) -> keras.Model:
    from fer_tf.models.dlib_resnet import dlib_resnet

    return dlib_resnet(*_sizes(spec), **_options(spec), seed=seed)


def _begin_with_dlibs(model: keras.Model) -> None:
    from fer_tf.models.dlib_resnet import begin_with_published

    begin_with_published(model)


def _sizes(spec: FaNetSpec) -> tuple[int, int, int]:
    return spec.num_classes, spec.image_size, spec.channels


def _options(spec: FaNetSpec) -> dict[str, Any]:
    return {"blur": spec.blur, "standardize": spec.standardize, "dropout": spec.dropout}


_LIGHT_CNN = Variant(_light_cnn, None, "with Max-Feature-Map and batch normalization")
_DLIB_RESNET = Variant(
    _dlib_resnet,
    _begin_with_dlibs,
    "of dlib's face descriptor's convolutions, with Max-Feature-Map in the feature layer",
)
VARIANTS = {
    "light_cnn_9": _LIGHT_CNN,
    "light_cnn_29": _LIGHT_CNN,
    "light_cnn_29_v2": _LIGHT_CNN,
    "dlib_resnet": _DLIB_RESNET,
}


def build(spec: FaNetSpec, *, kernel_variance: tuple[float, float] = (2.0, 2.0), seed: int = 0) -> keras.Model:
    """Returns a fresh network for the spec: preprocessed faces (see `preprocess`) to logits.

    Raises:
      InputError: for an unknown variant, fewer than 2 classes or an image below 16 pixels.
    """
    if spec.variant not in VARIANTS:
        raise not_one_of("variant", spec.variant, VARIANTS)
    return VARIANTS[spec.variant].build(spec, kernel_variance, seed)


def begin(model: keras.Model, spec: FaNetSpec) -> None:
    """Fills a fresh network with the published weights that its variant begins with, if any."""
    if published := VARIANTS[spec.variant].begin:
        published(model)


def save(
    folder: str, model: keras.Model, spec: FaNetSpec, *, storage: Storage = "float32", max_bytes: int | None = None
) -> int:
    """Writes weights and spec; each appears under its final name only when it is complete.

    Args:
      folder: any folder, local or such as `gs://`.
      model: the network.
      spec: its spec.
      storage: number format of kernels in the file; vectors (biases, variances) keep float32 for their range. float16
        takes half the size at a relative error below 0.05 %; int8 a quarter, each output channel with a scale of its
        own, at an error of at most 1/254 of the channel's largest weight.
      max_bytes: size of the weights file above which nothing is written; None allows any.

    Returns:
      int: size of the weights file, bytes.

    Raises:
      InputError: when the file is larger than `max_bytes`.
      CannotWrite: when the disk is full; what the folder held before is intact.
    """
    scales: dict[str, np.ndarray] = {}
    if storage == "int8":
        model, scales = _levels(model, spec)
    with files.whole_local(files.join(folder, WEIGHTS_FILE)) as path:
        model.save_weights(path)
        if storage != "float32":
            _shrink(path, storage, scales)
        size = os.path.getsize(path)
        if max_bytes is not None and size > max_bytes:
            raise InputError(
                f"the weights take {size:,} bytes as {storage}, more than the {max_bytes:,} that are allowed; "
                "--storage=int8 takes half of float16."
            )
    save_spec(folder, spec)
    return size


def _levels(model: keras.Model, spec: FaNetSpec) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """Returns the network with whole numbers from -127 to 127 for kernels, and each output channel's scale by path."""
    import keras

    levels, scales = build(spec), {}
    for level, weight in zip(levels.weights, model.weights, strict=True):
        values = keras.ops.convert_to_numpy(weight)
        if values.ndim >= 2:
            largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
            scales[level.path] = np.where(largest > 0, largest / 127, 1).astype("float32")
            values = np.rint(values / scales[level.path])
        level.assign(values)
    return levels, scales


def _shrink(path: str, storage: Storage, scales: dict[str, np.ndarray]) -> None:
    """Rewrites a weights file's kernels in another number format and adds their scales."""
    import h5py

    with h5py.File(path) as source, h5py.File(f"{path}.small", "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                target.require_group(name).attrs.update(item.attrs)
            else:
                values = item[()]
                is_kernel = getattr(values, "ndim", 0) >= 2 and values.dtype == "float32"
                target.create_dataset(name, data=values.astype(storage) if is_kernel else values)

        target.attrs.update(source.attrs)
        source.visititems(copy)
        for name, scale in scales.items():
            target[f"{SCALES}/{name}"] = scale
    os.replace(f"{path}.small", path)


def save_spec(folder: str, spec: FaNetSpec) -> None:
    """Writes `spec.json` in one step."""
    files.write_json(files.join(folder, SPEC_FILE), dataclasses.asdict(spec))


def load_spec(folder: str) -> FaNetSpec:
    """Returns the spec of a saved Fa-Net.

    Raises:
      InputError: when there is none, or it has an unknown or missing field.
    """
    path = files.join(folder, SPEC_FILE)
    try:
        values: dict[str, Any] = files.read_json(path)
        return FaNetSpec(**{**values, "expressions": tuple(values["expressions"])})
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no trained Fa-Net in {folder!r}: {SPEC_FILE} is missing; run trainer.task first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a Fa-Net spec: {error}") from None


def load(folder: str) -> tuple[keras.Model, FaNetSpec]:
    """Returns a saved Fa-Net and its spec."""
    spec = load_spec(folder)
    model = build(spec)
    load_weights(model, folder)
    return model, spec


def load_joined(source: str, *, calibrated: bool = True) -> tuple[keras.Model, FaNetSpec]:
    """Returns the Fa-Net of a source, or of several sources one whose answer is the mean of their probabilities.

    Args:
      source: a run folder, a folder with `spec.json` or a published network's name, or several with a `+` between.
      calibrated: whether probabilities are those of each one's temperature, or as they were trained.

    Returns:
      (model, spec): of several the model's logits are logarithms of probabilities, and the spec is the first one's,
      with all variants and a temperature of 1.

    Raises:
      InputError: when a folder has none, or they differ in their labels or in what they see.
    """
    import keras

    folders = network_folders(source)
    networks = [load(folder) for folder in folders]
    first, *others = (spec for _, spec in networks)
    for folder, spec in zip(folders[1:], others, strict=True):
        for name in ("expressions", "image_size", "channels", "crop", "aligned_crop", "landmark_model"):
            if getattr(spec, name) != getattr(first, name):
                raise InputError(
                    f"{source!r} joins networks that see the same: {folders[0]!r} has the {name} "
                    f"{getattr(first, name)!r}, {folder!r} has {getattr(spec, name)!r}."
                )
    if not others:
        return networks[0]
    faces = keras.Input((first.image_size, first.image_size, first.channels), name="face")
    answers = []
    for number, (model, spec) in enumerate(networks):
        model.name = f"{model.name}_{number}"  # Two of one variant would not fit into one model.
        logits = keras.ops.cast(model(faces), "float32")
        answers.append(keras.ops.softmax(logits / (spec.temperature if calibrated else 1.0)))
    mean = keras.ops.log(keras.ops.mean(keras.ops.stack(answers), axis=0) + 1e-12)
    variant = PLUS.join(spec.variant for _, spec in networks)
    return keras.Model(faces, mean, name="joined"), dataclasses.replace(first, variant=variant, temperature=1.0)


def load_weights(model: keras.Model, folder: str) -> None:
    """Fills a network with a folder's weights in any number format of `save`; nothing in the file is executed.

    Raises:
      InputError: when the file is missing or does not fit the network.
    """
    path = files.join(folder, WEIGHTS_FILE)
    if not files.exists(path):
        raise InputError(f"no weights in {folder!r}: {WEIGHTS_FILE} is missing; run trainer.task first")
    with files.local_copy(path) as local:
        try:
            model.load_weights(local)
            _scale(model, local)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} does not fit its {SPEC_FILE}, or is damaged: {reason}") from None


def _scale(model: keras.Model, path: str) -> None:
    """Multiplies kernels that were stored as whole numbers by the scales in their file."""
    import h5py

    with h5py.File(path) as file:
        for weight in model.weights:
            scale = file.get(f"{SCALES}/{weight.path}")
            if scale is not None:
                # Before it is read, so that a damaged file cannot take more memory than the network does.
                if scale.shape != weight.shape[-1:]:
                    raise ValueError(f"{scale.name} has the shape {scale.shape}, its kernel {tuple(weight.shape)}")
                weight.assign(weight * scale[()])
