"""The networks that take part in a Fa-Net's training: the one it begins with, its teacher, the GAN of its faces."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import keras
import numpy as np

from fer_tf.data.folder import fingerprint_of
from fer_tf.data.inputs import FaceSet
from fer_tf.errors import InputError
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.light_cnn import FEATURE_DENSE_LAYER, LOGITS_LAYER, can_grow, convolution_name
from fer_tf.run_folder import RunFolder, network_folder, network_folders
from fer_tf.synthesis import shards
from trainer import runtime
from trainer.config import TaskConfig


def folders(config: TaskConfig) -> dict[str, str]:
    """Returns the folders of the networks that take part in a run's training, by the flag that brings them."""
    sources = {"init_from": config.fa_net.init_from, "teacher": config.fa_net.teacher}
    found = {flag: source for flag, source in sources.items() if source}
    made_in = RunFolder(config.fa_net.synthetic_from or config.run.run_dir)
    if config.fa_net.synthetic and not config.is_public and made_in.has_synthetic:
        found["synthetic_from" if config.fa_net.synthetic_from else "synthetic"] = made_in.gan.path
    return found


def check(config: TaskConfig, faces: FaceSet) -> tuple[str, ...]:
    """Returns, and logs, what a reader of the scores must know of the networks that take part in a run's training.

    Raises:
      InputError: when one of them has seen faces that this task tests (see `lineage.check`).
    """
    found = folders(config).items()
    notes = tuple(note for flag, source in found for note in lineage.check(flag, source, faces, config.task))
    for note in notes:
        logging.warning("%s", note)
    return notes


def check_finished(config: TaskConfig) -> None:
    """Refuses to pass a finished Fa-Net for one of synthetic faces that were made, or made anew, after it.

    Raises:
      InputError: then; of a run of before 0.2, which recorded none, nothing is told.
    """
    known = (config.folder.fa_net.read_history() or {}).get("synthetic_fingerprint")
    if known is None or config.is_public or not config.fa_net.synthetic:
        return
    made_in = RunFolder(config.fa_net.synthetic_from or config.run.run_dir)
    now = fingerprint_of(shards.faces_of(made_in))
    if now and now != known:
        trained_on = f"synthetic faces with fingerprint {known[:12]}" if known else "no synthetic faces"
        raise InputError(
            f"{config.folder.fa_net.path} is finished and was trained on {trained_on}. Received: those in "
            f"{made_in.synthetic}, fingerprint {now[:12]}, which were made since. To train on them take another "
            f"--run_dir, with --synthetic_from={made_in.path}."
        )


def record_lineage(config: TaskConfig, faces: FaceSet) -> None:
    """Writes which images go into the run's network, its own and those of the networks that take part."""
    network = config.folder.fa_net
    if runtime.is_chief() and not lineage.is_settled(network):
        lineage.write(network.path, lineage.of_training(faces, config.task, folders(config)))


def first_temperature(config: TaskConfig, faces: FaceSet) -> float:
    """Returns the temperature of the Fa-Net to begin with, or else of the teacher, that answers the same question.

    Without one it is 1. A student sees faces as changed as its teacher did, and learns its answers: so it is as unsure.
    """
    for source in filter(None, (config.fa_net.init_from, config.fa_net.teacher)):
        others = [fa_net.load_spec(folder) for folder in network_folders(source)]
        if all(other.expressions == faces.expressions for other in others):
            return float(np.mean([other.temperature for other in others]))
    return 1.0


def init_from(model: keras.Model, spec: FaNetSpec, source: str) -> None:
    """Copies another Fa-Net's weights; of the head, what belongs to classes of the same name, and new ones stay fresh.

    A LightCNN-29 may grow out of a LightCNN-9: its residual blocks stay fresh and it begins with the same answers
    (Chen et al. 2016, Net2Net, arXiv 1511.05641).

    Args:
      model: the network to fill.
      spec: its spec.
      source: a run folder, a folder with `spec.json`, or a published network's name (`pretrained`).

    Raises:
      InputError: when the backbones differ.
    """
    other, other_spec = fa_net.load(network_folder(source))
    grows = spec.batch_norm and can_grow(other_spec.variant, spec.variant)
    if (
        not (grows or other_spec.variant == spec.variant)
        or other_spec.channels != spec.channels
        or other_spec.batch_norm != spec.batch_norm
    ):
        raise InputError(
            f"`init_from` {source!r} holds a {other_spec.variant} with {other_spec.channels} channel(s); "
            f"this run builds a {spec.variant} with {spec.channels}. Give the same --variant and --channels "
            "(a light_cnn_29 may also grow out of a light_cnn_9)."
        )
    known = {layer.name for layer in other.layers}
    for layer in model.layers:
        if not layer.weights or layer.name not in known:
            continue
        old = other.get_layer(layer.name)
        fits = [weight.shape for weight in layer.weights] == [weight.shape for weight in old.weights]
        if layer.name == LOGITS_LAYER:
            _copy_head(layer, old, spec.expressions, other_spec.expressions, source)
        elif fits:
            layer.set_weights(old.get_weights())
        elif layer.name == FEATURE_DENSE_LAYER:
            logging.info("init_from %s: new feature layer, because the input sizes end in other maps", source)
        else:
            raise InputError(f"`init_from` {source!r}: layer {layer.name!r} has other shapes than this network's.")


def shrink_kernels(model: keras.Model, variance: float) -> None:
    """Brings batch-normalized kernels to the size of fresh ones; the network's answers stay as they are.

    A step moves a kernel of six times the size 36 times less (van Laarhoven 2017, arXiv 1706.05350): from kernels that
    were trained at large rates, a recipe of small kernels and small rates would hardly learn.

    Args:
      model: the network.
      variance: of a fresh kernel's weights times the number of its inputs.
    """
    for norm in model.layers:
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        convolution = model.get_layer(convolution_name(norm.name.removesuffix("_norm")))
        kernel = convolution.kernel.numpy()
        inputs = kernel[..., 0].size
        scale = float(np.sqrt(variance / (np.mean(np.square(kernel)) * inputs + 1e-12)))
        convolution.kernel.assign(kernel * scale)
        norm.moving_mean.assign(norm.moving_mean * scale)
        # The constant that keeps the division safe does not shrink with the rest.
        variances = (norm.moving_variance.numpy() + norm.epsilon) * scale**2 - norm.epsilon
        norm.moving_variance.assign(np.maximum(variances, 0.0))


def _copy_head(
    layer: keras.layers.Layer, old: keras.layers.Layer, names: Sequence[str], old_names: Sequence[str], source: str
) -> None:
    """Gives each class the weights of the one with its name."""
    shared = [name for name in names if name in old_names]
    ours, theirs = ([among.index(name) for name in shared] for among in (names, old_names))
    filled = layer.get_weights()
    for new, known in zip(filled, old.get_weights(), strict=True):
        new[..., ours] = known[..., theirs]
    layer.set_weights(filled)
    if fresh := [name for name in names if name not in shared]:
        logging.info("init_from %s: %d classes have its weights, new are %s", source, len(shared), ", ".join(fresh))


def load_teacher(source: str, spec: FaNetSpec) -> keras.Model:
    """Returns another Fa-Net, at the input size it was kept at, or several as one (see `fa_net.load_joined`).

    Args:
      source: a run folder, a folder with `spec.json`, a published network's name (`pretrained`), or several with a `+`
        between.
      spec: the network that learns from it.

    Raises:
      InputError: when its labels, channels or window differ.
    """
    model, other = fa_net.load_joined(source, calibrated=False)
    for name in ("expressions", "channels", "crop"):
        if getattr(other, name) != getattr(spec, name):
            raise InputError(
                f"`teacher` {source!r} has the {name} {getattr(other, name)}. This run has {getattr(spec, name)}; a "
                "teacher must answer the same question on the same faces."
            )
    return model
