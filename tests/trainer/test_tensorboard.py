"""TensorBoard finds what the trainer wrote: pictures, curves, embeddings with their labels, HParams, graph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.pr_curve.metadata import PLUGIN_NAME as PR_CURVES

from fer_tf.config import of
from fer_tf.data import inputs
from fer_tf.data.augment import Augmentation
from fer_tf.errors import InputError
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from tests.toy_data import EXPRESSIONS
from trainer import tensorboard
from trainer.config import FaNetOptions, RunOptions, TaskConfig
from trainer.recipes import recipe_of

SIZE = 32


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


@pytest.fixture(scope="module")
def evaluation(toy_data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, inputs.Part, np.ndarray]:
    run = tmp_path_factory.mktemp("run")
    config = of(TaskConfig, run_dir=str(run), data=toy_data, seed=5)
    part = inputs.read_records(toy_data, "er_ss").parts["test"]
    spec = FaNetSpec(EXPRESSIONS, image_size=SIZE)
    logits = np.random.default_rng(0).normal(size=(len(part), 4)).astype(np.float32)
    stale = run / "tensorboard" / tensorboard.EVALUATION / "events.out.tfevents.of.an.earlier.evaluation"
    stale.parent.mkdir(parents=True)
    stale.touch()
    tensorboard.write_evaluation(config, fa_net.build(spec), spec, part, logits, step=3)
    return run / "tensorboard" / tensorboard.EVALUATION, part, logits


def test_the_evaluation_has_pictures_scalars_graph_and_hparams(evaluation: tuple) -> None:
    folder, part, logits = evaluation
    assert len(list(folder.glob("events*"))) == 1
    events = read(folder)
    tags = set(events.Tags()["tensors"])
    pictures = {"test/confusion", "test/class_accuracy", "test/reliability_calibrated", "saliency"}
    assert pictures | {"test/accuracy", "test/macro_f1", "test_accuracy_of/happy"} <= tags
    assert events.Tags()["graph"]
    accuracy = events.Tensors("test/accuracy")[0]
    assert accuracy.step == 3
    assert tf.make_ndarray(accuracy.tensor_proto) == pytest.approx((logits.argmax(1) == part.labels).mean())
    assert "_hparams_/experiment" in events.summary_metadata


def test_hparams_are_what_the_recipe_made_of_the_flags(evaluation: tuple) -> None:
    folder, _, _ = evaluation
    content = read(folder).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    recipe = recipe_of("er_ss", FaNetOptions())
    assert hparams["learning_rate"].number_value == recipe.learning_rate > 0
    assert hparams["epochs"].number_value == recipe.epochs > 0
    assert hparams["seed"].number_value == 5
    assert hparams["recipe"].string_value == "best"


def test_pr_curves_count_every_face_once(evaluation: tuple) -> None:
    folder, part, _ = evaluation
    events = read(folder)
    content = events.PluginTagToContent(PR_CURVES)
    assert set(content) == {f"pr/{name}/pr_curves" for name in EXPRESSIONS}
    counts = tf.make_ndarray(events.Tensors("pr/happy/pr_curves")[0].tensor_proto)
    assert counts.shape == (6, tensorboard.PR_THRESHOLDS)
    np.testing.assert_allclose(counts[:4].sum(0), len(part))


def test_embeddings_come_with_labels_and_sprite(evaluation: tuple) -> None:
    folder, part, logits = evaluation
    features = np.loadtxt(folder / "features.tsv", delimiter="\t")
    assert features.shape == (len(part), 256)
    head, *rows = [line.split("\t") for line in (folder / "metadata.tsv").read_text().splitlines()]
    assert head == ["expression", "predicted", "pose", "person", "right"]
    assert [row[0] for row in rows] == [EXPRESSIONS[label] for label in part.labels]
    assert [row[1] for row in rows] == [EXPRESSIONS[label] for label in logits.argmax(1)]
    assert [row[2] for row in rows] == part.poses.tolist()
    side = int(np.ceil(np.sqrt(len(part)))) * tensorboard.SPRITE_SIDE
    assert cv2.imread(str(folder / "sprite.png")).shape == (side, side, 3)
    assert "sprite.png" in (folder / "projector_config.pbtxt").read_text()


def test_sprite_places_pictures_row_by_row() -> None:
    pictures = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (10, 20, 30)])
    mosaic = tensorboard.sprite(pictures)
    half = tensorboard.SPRITE_SIDE
    assert mosaic[[0, 0, half], [0, half, 0], 0].tolist() == [10, 20, 30]
    assert mosaic[half + 1, half + 1, 0] == 0


def test_training_shows_its_inputs_and_confusion(toy_data: str, tmp_path: Path) -> None:
    config = of(TaskConfig, run_dir=str(tmp_path), data=toy_data)
    part = inputs.read_records(toy_data, "er_ss").parts["train"]
    batches = inputs.training_batches(
        part,
        4,
        image_size=SIZE,
        channels=1,
        crop=1.0,
        batch_size=8,
        steps_per_epoch=2,
        augmentation=Augmentation(),
        seed=0,
    )
    pictures = tensorboard.TrainingPictures(config.folder, EXPRESSIONS, epochs=40)
    pictures.inputs(batches, 0)
    for epoch in (1, 2, 3):
        pictures.validation(np.array([0, 1, 1]), np.eye(4)[[0, 1, 2]], epoch)
    events = read(tmp_path / "tensorboard" / tensorboard.TRAINING / "pictures")
    assert {"inputs/after_augmentation", "inputs/labels"} <= set(events.Tags()["tensors"])
    assert [event.step for event in events.Tensors("val/confusion")] == [1, 2]
    recalls = events.Tensors("val_accuracy_of/happy")
    assert [tf.make_ndarray(event.tensor_proto) for event in recalls] == [0.5, 0.5, 0.5]


def test_profile_takes_two_steps() -> None:
    assert tensorboard.callbacks(RunOptions(profile="2,4"))[0]._start_batch == 2
    with pytest.raises(InputError, match="`profile` must be two step numbers"):
        of(TaskConfig, profile="ten")
