"""What TensorBoard shows of Fa-Net beside its scalars: inputs, confusion, reliability, PR curves, embeddings, HParams.

Two runs stand under a run folder's `tensorboard/`: `fa_net` follows the training, `evaluation` holds the finished
network's pictures, curves, graph, embeddings and HParams. `tensorboard --logdir runs` shows them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fer_tf import files
from fer_tf.config import to_dict
from fer_tf.data import inputs
from fer_tf.data.inputs import Part
from fer_tf.evaluation import calibration, metrics, saliency
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.light_cnn import FEATURES_LAYER
from fer_tf.reports import figures
from fer_tf.run_folder import RunFolder
from trainer import runtime
from trainer.config import RunOptions, TaskConfig
from trainer.recipes import recipe_of

TRAINING, EVALUATION = "fa_net", "evaluation"
INPUT_PICTURES = 24
# The projector's page stays quick with this many points, and their sprite below its limit of 8192 pixels.
PROJECTOR_FACES = 1000
SPRITE_SIDE = 48
SALIENCY_FACES = 6
# PR curves of more classes than this would fill the page; the most frequent ones are kept.
MAX_CURVES = 12
PR_THRESHOLDS = 101
# A confusion matrix is drawn for this many epochs of a run, evenly spread.
EPOCH_PICTURES = 20
# The HParams table's columns: flags that decide what Fa-Net becomes, and what the recipe makes of those left at 0.
HPARAM_FLAGS = (
    "task",
    "recipe",
    "variant",
    "channels",
    "precision",
    "init_from",
    "teacher",
    "synthetic",
    "tta",
    "seed",
)
HPARAM_RECIPE = ("epochs", "batch_size", "learning_rate", "image_size", "optimizer", "weight_decay", "dropout")


def callbacks(run: RunOptions) -> list[keras.callbacks.Callback]:
    """Returns Keras' own callback: scalars and learning rate by epoch, and a profile of the steps of `--profile`."""
    if not runtime.is_chief():
        return []
    folder = files.join(runtime.tensorboard_dir(run.folder), TRAINING)
    steps = tuple(int(step) for step in run.profile.split(",")) if run.profile else 0
    return [keras.callbacks.TensorBoard(folder, write_graph=False, profile_batch=steps)]


class TrainingPictures:
    """Draws what Fa-Net is fed and, over the epochs, what it confuses.

    Args:
      run: the run folder.
      expressions: label names.
      epochs: epochs of the whole run.
    """

    def __init__(self, run: RunFolder, expressions: Sequence[str], epochs: int) -> None:
        folder = files.join(runtime.tensorboard_dir(run), TRAINING, "pictures")
        self._writer = tf.summary.create_file_writer(folder) if runtime.is_chief() else tf.summary.create_noop_writer()
        self._expressions = tuple(expressions)
        self._every = max(1, math.ceil(epochs / EPOCH_PICTURES))

    def inputs(self, batches: tf.data.Dataset, epoch: int) -> None:
        """Writes the first faces as the network sees them, after augmentation, with their labels."""
        faces, labels = next(iter(batches.take(1).as_numpy_iterator()))
        names = [self._expressions[index] for index in np.argmax(labels[:INPUT_PICTURES], 1)]
        pictures = to_uint8(faces[:INPUT_PICTURES])
        rows = [("", list(pictures[start : start + 6])) for start in range(0, len(pictures), 6)]
        heading = "inputs after augmentation"
        caption = "\n".join(" · ".join(names[start : start + 6]) for start in range(0, len(names), 6))
        with self._writer.as_default(epoch):
            _picture("inputs/after_augmentation", figures.picture_sheet(rows, title=heading))
            tf.summary.text("inputs/labels", caption.replace("\n", "\n\n"))
        self._writer.flush()

    def validation(self, labels: np.ndarray, logits: np.ndarray, epoch: int) -> None:
        """Writes an epoch's accuracy per class and, now and then, its confusion matrix.

        Args:
          labels: int (N,).
          logits: float (N, num_classes).
          epoch: finished epochs, from 1.
        """
        confusion = metrics.confusion_matrix(labels, logits.argmax(1), len(self._expressions))
        with self._writer.as_default(epoch):
            for name, value in zip(self._expressions, metrics.class_accuracy(confusion), strict=True):
                if not np.isnan(value):
                    tf.summary.scalar(f"val_accuracy_of/{name}", value)
            if epoch % self._every == 0 or epoch == 1:
                _picture("val/confusion", figures.confusion_matrix(confusion, self._expressions, f"Epoch {epoch}"))
        self._writer.flush()


def write_evaluation(
    config: TaskConfig, model: keras.Model, spec: FaNetSpec, part: Part, logits: np.ndarray, step: int
) -> None:
    """Writes the finished network's page: pictures, curves, graph, embeddings and HParams; replaces an earlier one.

    Args:
      config: the run's flags.
      model: the finished Fa-Net.
      spec: its spec.
      part: the part that was scored, of whose faces those without a majority of votes count in no score.
      logits: float (N, num_classes), in the part's order.
      step: the epoch that the weights come from.
    """
    folder = files.join(runtime.tensorboard_dir(config.folder), EVALUATION)
    files.delete_folder(folder)
    clear = part.has_majority
    if not clear.any():
        return
    judged, answers = part.rows(clear), logits[clear]
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step):
        _scores(spec, judged, answers)
        _pr_curves(spec, judged.labels, calibration.softmax(answers, spec.temperature))
        _graph(model)
        faces, chosen = _sample(part, spec, PROJECTOR_FACES)
        _saliency(model, spec, faces, part.labels[chosen])
        _hparams(config, judged, answers)
    writer.close()
    _projector(folder, model, spec, faces, part.rows(chosen), logits[chosen])


def _scores(spec: FaNetSpec, part: Part, logits: np.ndarray) -> None:
    confusion = metrics.confusion_matrix(part.labels, logits.argmax(1), spec.num_classes)
    _picture("test/confusion", figures.confusion_matrix(confusion, spec.expressions))
    recalls = metrics.class_accuracy(confusion)
    for name, value in zip(spec.expressions, recalls, strict=True):
        if not np.isnan(value):
            tf.summary.scalar(f"test_accuracy_of/{name}", value)
    right = (logits.argmax(1) == part.labels).astype(float)
    persons, _ = metrics.units(part.persons, part.image_ids)
    names = [name for name, value in zip(spec.expressions, recalls, strict=True) if not np.isnan(value)]
    of_class = [part.labels == spec.expressions.index(name) for name in names]
    drawn = ((right[own], None if persons is None else persons[own]) for own in of_class)
    lows, highs = zip(*(metrics.bootstrap_interval(*values, samples=300) for values in drawn), strict=True)
    means = [right[own].mean() for own in of_class]
    # A class of one person, or with one face, has no interval.
    lows, highs = np.where(np.isnan(lows), means, lows), np.where(np.isnan(highs), means, highs)
    _picture("test/class_accuracy", figures.rates_with_intervals(names, means, lows, highs, "Accuracy by expression"))
    for title, temperature in (("uncalibrated", 1.0), ("calibrated", spec.temperature)):
        probabilities = calibration.softmax(logits, temperature)
        rows = calibration.reliability(probabilities, part.labels)
        _picture(f"test/reliability_{title}", figures.reliability_diagram(rows, f"Reliability, {title}"))
        tf.summary.scalar(f"test/ece_{title}", calibration.expected_calibration_error(probabilities, part.labels))


def _pr_curves(spec: FaNetSpec, labels: np.ndarray, probabilities: np.ndarray) -> None:
    from tensorboard.plugins.pr_curve import summary

    frequent = np.argsort(-np.bincount(labels, minlength=spec.num_classes), kind="stable")[:MAX_CURVES]
    for index in sorted(frequent.tolist()):
        if (labels == index).any():
            name = f"pr/{spec.expressions[index]}"
            proto = summary.pb(name, labels == index, probabilities[:, index], PR_THRESHOLDS)
            tf.summary.experimental.write_raw_pb(proto.SerializeToString())


def _graph(model: keras.Model) -> None:
    shape = (None, *model.input_shape[1:])
    forward = tf.function(lambda faces: model(faces, training=False))
    tf.summary.graph(forward.get_concrete_function(tf.TensorSpec(shape, tf.float32, "face")).graph)


def _sample(part: Part, spec: FaNetSpec, count: int) -> tuple[np.ndarray, np.ndarray]:
    """At most about `count` preprocessed faces, evenly spread over the part, and their rows."""
    every = max(1, math.ceil(len(part) / count))
    batches = inputs.evaluation_batches(part, image_size=spec.image_size, channels=spec.channels, crop=spec.crop)
    faces = [image for image, _ in batches.unbatch().shard(every, 0).as_numpy_iterator()]
    return np.stack(faces), np.arange(0, len(part), every)


def _saliency(model: keras.Model, spec: FaNetSpec, faces: np.ndarray, labels: np.ndarray) -> None:
    """Overlays of every method, for the first face of each expression."""
    first = [int(np.flatnonzero(labels == index)[0]) for index in np.unique(labels)][:SALIENCY_FACES]
    chosen, targets = faces[first], labels[first].tolist()
    rows = [("face", list(to_uint8(chosen)))]
    for method in saliency.METHODS:
        maps = saliency.saliency_maps(model, chosen, targets, method)
        rows.append((method, [saliency.overlay(face, heat) for face, heat in zip(chosen, maps, strict=True)]))
    _picture("saliency", figures.picture_sheet(rows, [spec.expressions[index] for index in targets]))


def _hparams(config: TaskConfig, part: Part, logits: np.ndarray) -> None:
    from tensorboard.plugins.hparams import api

    recipe = recipe_of(config.task, config.fa_net)
    known = to_dict(config)
    flags = {name: known[name] for name in HPARAM_FLAGS}
    flags |= {name: getattr(recipe, name) for name in HPARAM_RECIPE}
    measured = ("test/accuracy", "test/mean_class_accuracy", "test/macro_f1", "test/ece_calibrated")
    api.hparams_config(
        hparams=[api.HParam(name) for name in flags],
        metrics=[api.Metric(name, display_name=name.removeprefix("test/").replace("_", " ")) for name in measured],
    )
    api.hparams(flags, trial_id=config.run.run_dir)
    confusion = metrics.confusion_matrix(part.labels, logits.argmax(1), logits.shape[1])
    tf.summary.scalar("test/accuracy", metrics.accuracy(part.labels, logits.argmax(1)))
    tf.summary.scalar("test/mean_class_accuracy", metrics.mean_class_accuracy(confusion))
    tf.summary.scalar("test/macro_f1", metrics.macro_f1(confusion))


def _projector(
    folder: str, model: keras.Model, spec: FaNetSpec, faces: np.ndarray, table: Part, logits: np.ndarray
) -> None:
    """Writes the 256-d features with a sprite and, to colour them by, expression, prediction, pose and person."""
    from tensorboard.plugins import projector

    features = keras.Model(model.inputs, model.get_layer(FEATURES_LAYER).output).predict(faces, verbose=0)
    tsv = "\n".join("\t".join(f"{value:.5g}" for value in row) for row in features)
    files.write_text(files.join(folder, "features.tsv"), tsv + "\n")
    names = np.array(spec.expressions, dtype=object)
    columns = {
        "expression": names[table.labels],
        "predicted": names[logits.argmax(1)],
        "pose": table.poses,
        "person": table.persons,
        "right": np.where(logits.argmax(1) == table.labels, "yes", "no"),
    }
    lines = [
        "\t".join(columns),
        *("\t".join(str(v) or "unknown" for v in row) for row in zip(*columns.values(), strict=True)),
    ]
    files.write_text(files.join(folder, "metadata.tsv"), "\n".join(lines) + "\n")
    files.write_bytes(files.join(folder, "sprite.png"), tf.io.encode_png(sprite(to_uint8(faces))).numpy())
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(
        tensor_name="Fa-Net features", tensor_path="features.tsv", metadata_path="metadata.tsv"
    )
    embedding.sprite.image_path = "sprite.png"
    embedding.sprite.single_image_dim.extend([SPRITE_SIDE, SPRITE_SIDE])
    projector.visualize_embeddings(folder, config)


def sprite(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures as one square mosaic, row by row, uint8 (side, side, 3), as the projector wants it.

    Args:
      pictures: uint8 (N, H, W, C), C 1 or 3.
    """
    import cv2

    columns = math.ceil(math.sqrt(len(pictures)))
    mosaic = np.zeros((columns * SPRITE_SIDE, columns * SPRITE_SIDE, 3), np.uint8)
    for index, picture in enumerate(pictures):
        small = cv2.resize(picture, (SPRITE_SIDE, SPRITE_SIDE), interpolation=cv2.INTER_AREA)
        top, left = SPRITE_SIDE * (index // columns), SPRITE_SIDE * (index % columns)
        mosaic[top : top + SPRITE_SIDE, left : left + SPRITE_SIDE] = small.reshape(SPRITE_SIDE, SPRITE_SIDE, -1)
    return mosaic


def to_uint8(faces: np.ndarray) -> np.ndarray:
    """Returns preprocessed faces, 0 to 1, as uint8 pictures."""
    return (np.clip(faces, 0, 1) * 255).round().astype(np.uint8)


def _picture(name: str, figure: Any) -> None:
    tf.summary.image(name, figures.to_rgb(figure)[None])
