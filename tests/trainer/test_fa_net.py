"""A Fa-Net run leaves everything in its folder, and refuses what does not fit it."""

from __future__ import annotations

import dataclasses
import os
import shutil

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf import files, tfrecords
from fer_tf.config import of, replace
from fer_tf.data import inputs, schema
from fer_tf.data.augment import Augmentation
from fer_tf.data.folder import DataFolder
from fer_tf.data.stored import Stored
from fer_tf.errors import InputError
from fer_tf.evaluation import calibration
from fer_tf.models import fa_net as networks
from fer_tf.models import lineage
from fer_tf.models.label_loss import LabelCrossentropy
from fer_tf.run_folder import LINEAGE_FILE
from tests.fer_tf.data.test_inputs import rewrite, update
from tests.trainer.conftest import flags, read
from trainer import evaluate, fa_net, runtime, shown
from trainer.batch_statistics import BatchStatistics
from trainer.config import TaskConfig
from trainer.recipes import STRONG
from trainer.task import main


def test_the_run_folder_tells_what_was_done(trained, toy_data):
    config = read(trained, "config.json")
    assert config["flags"]["epochs"] == 2 and config["flags"]["seed"] == 0
    assert set(config["versions"]) >= {"tensorflow", "keras", "python"}
    spec = networks.load_spec(os.path.join(trained, "fa_net"))
    assert spec.data_fingerprint == read(toy_data, "dataset.json")["fingerprint"]
    assert spec.expressions == ("angry", "happy", "sad", "surprise") and spec.task == "er_ss"
    history = read(trained, "fa_net", "history.json")
    assert [set(row) for row in history["history"]] == [
        {
            "loss",
            "accuracy",
            "images_per_second",
            "val_accuracy",
            "val_mean_class_accuracy",
            "val_loss",
            "learning_rate",
        }
    ] * 2
    with open(os.path.join(trained, "log.txt")) as file:
        assert len([line for line in file if " epoch " in line and "/2 " in line]) == 2
    assert os.path.exists(os.path.join(trained, "fa_net", "FINISHED"))


def test_a_balanced_softmax_counts_all_faces_or_the_real_ones_alone(toy_data):
    def prior(balance: str, faces: inputs.FaceSet) -> list[float]:
        return fa_net._prior(of(TaskConfig, data=toy_data, balance=balance), faces).tolist()

    real = fa_net.read_faces(of(TaskConfig, data=toy_data, synthetic=False))
    shares = np.bincount(real.parts["train"].labels, minlength=4) / len(real.parts["train"])
    assert prior("softmax", real) == pytest.approx(shares) == prior("softmax_real", real)
    # As many synthetic faces as real ones, all of the first class.
    train, chosen = real.parts["train"], np.flatnonzero(real.parts["train"].labels == 0)
    stored = (dataclasses.replace(train.stored[0], faces=2 * len(train)),)
    twice = train.rows(np.concatenate([np.arange(len(train)), np.resize(chosen, len(train))]))
    train = dataclasses.replace(twice, stored=stored)
    both = dataclasses.replace(real, parts={**real.parts, "train": train}, synthetic_fingerprint="some")
    assert prior("softmax", both) == pytest.approx((shares + [1, 0, 0, 0]) / 2)
    assert prior("softmax_real", both) == pytest.approx(shares)


@pytest.mark.parametrize("labels", ["distribution", "draw", "majority"])
def test_under_a_balanced_softmax_a_network_that_sees_nothing_answers_each_class_alike(labels):
    """Of 900 faces three of ten votes are for a class that is nobody's label."""
    votes = np.array([[0.7, 0.3, 0.0]] * 900 + [[0.0, 0.0, 1.0]] * 100, np.float32)
    nothing = np.full(len(votes), "", object)
    stored = (Stored(("x",), "ferplus", "train", len(votes), (0, 1, 2)),)
    columns = (votes.argmax(1), nothing, nothing, nothing, np.zeros(len(votes), int))
    train = inputs.Part(nothing, *columns, votes=votes, stored=stored)
    config = of(TaskConfig, task="ferplus", balance="softmax", labels=labels)
    prior = fa_net._prior(config, inputs.FaceSet(("a", "b", "c"), {"train": train}, ""))
    learned = np.eye(3, dtype=np.float32)[votes.argmax(1)] if labels == "majority" else votes
    seen = learned.any(axis=0)
    logits = tf.Variable(tf.zeros((1, 3)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(LabelCrossentropy(prior=prior).call(learned, tf.repeat(logits, len(votes), 0)))
    # The loss is convex, and so least where its gradient is zero: at equal answers.
    assert np.abs(tape.gradient(loss, logits).numpy()[0, seen]).max() < 1e-5


def test_a_set_that_is_seen_for_less_than_a_batch_still_ends(toy_data):
    train = fa_net.read_faces(of(TaskConfig, data=toy_data, synthetic=False)).parts["train"].seen(0.4)
    spec = networks.FaNetSpec(("a", "b", "c", "d"), image_size=16)
    batches = shown.statistics_batches(train, spec, len(train) // 2, 0, False)
    assert [len(targets) for _, targets in batches] == [48, 48]
    with pytest.raises(InputError, match=r"`steps_per_epoch` must be at least 1\. Received: 0"):
        inputs.training_batches(
            train, 4, image_size=16, channels=1, crop=1.0, batch_size=8, steps_per_epoch=0, augmentation=STRONG, seed=0
        )


def test_tensorboard_has_learning_rate_and_speed(trained):
    tags = {
        (os.path.basename(os.path.dirname(path)), value.tag)
        for path in tf.io.gfile.glob(os.path.join(trained, "tensorboard", "fa_net", "*", "events*"))
        for event in tf.compat.v1.train.summary_iterator(path)
        for value in event.summary.value
    }
    assert tags >= {("train", f"epoch_{name}") for name in ("learning_rate", "images_per_second", "loss", "accuracy")}
    assert tags >= {("validation", "epoch_accuracy"), ("validation", "epoch_loss")}
    assert tf.io.gfile.glob(os.path.join(trained, "tensorboard", "evaluation", "events*"))


def test_metrics_are_those_of_the_saved_predictions_and_weights(trained, toy_data):
    result = read(trained, "metrics.json")
    predictions = np.load(os.path.join(trained, "fa_net", "predictions_test.npz"))
    right = predictions["logits"].argmax(1) == predictions["label"]
    assert result["test"]["accuracy"] == pytest.approx(right.mean()) and len(right) == 32
    assert result["test"]["chance"] == 0.25
    model, spec = networks.load(os.path.join(trained, "fa_net"))
    part = fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=trained)).parts["test"]
    assert part.image_ids.tolist() == predictions["image_id"].tolist()
    np.testing.assert_allclose(fa_net.predict(model, part, spec), predictions["logits"], atol=1e-5)
    val = np.load(os.path.join(trained, "fa_net", "predictions_val.npz"))
    assert spec.temperature == pytest.approx(calibration.fit_temperature(val["logits"], val["label"]), rel=1e-3)


def test_the_page_stands_alone_and_names_the_score(trained):
    with open(os.path.join(trained, "evaluation.html")) as file:
        page = file.read()
    accuracy = read(trained, "metrics.json")["test"]["accuracy"]
    assert f"{100 * accuracy:.1f} %" in page and page.count("data:image/svg+xml") == 2
    assert "http://" not in page.replace("http://www.w3.org", "") and "bird_view" in page


def test_a_finished_stage_is_not_repeated_and_evaluation_gives_the_same_again(trained, toy_data, no_board):
    weights, before = os.path.join(trained, "fa_net", "best.weights.h5"), read(trained, "metrics.json")
    written = os.stat(weights).st_mtime_ns
    for stage in ("fa_net", "evaluate"):
        assert main([f"--stage={stage}", *flags(toy_data, trained)]) == 0
    after = read(trained, "metrics.json")
    # How fast it answered is measured each time.
    assert before.pop("images_per_second") > 0 and after.pop("images_per_second") > 0
    assert os.stat(weights).st_mtime_ns == written and after == before


def test_flip_is_a_choice_that_the_metrics_name(trained, tmp_path, monkeypatch, no_board):
    copy = shutil.copytree(trained, tmp_path / "run")
    assert read(copy, "metrics.json")["tta"] == "none"
    # What is not given, data and training flags, is the run's.
    monkeypatch.chdir(tmp_path)
    assert main(["--stage=evaluate", f"--run_dir={copy}", "--tta=flip"]) == 0
    with pytest.raises(InputError, match=r"`epochs` was 2 when this run began\. Received: 7"):
        main(["--stage=evaluate", f"--run_dir={copy}", "--epochs=7"])
    assert read(copy, "metrics.json")["tta"] == "flip"
    before, after = (np.load(f"{folder}/fa_net/predictions_test.npz")["logits"] for folder in (trained, copy))
    assert np.abs(before - after).max() > 1e-4


@pytest.mark.parametrize(
    ("task", "keep", "last"), [("er_ss", "auto", False), ("er_ss", "last", True), ("er_up", "auto", True)]
)
def test_the_epoch_that_is_kept_is_the_tasks_unless_a_flag_says_which(task, keep, last):
    assert of(TaskConfig, task=task, keep=keep).keeps_last == last


@pytest.mark.parametrize(("task", "keep", "epoch"), [("er_ss", "auto", 1), ("er_up", "auto", 2), ("er_up", "best", 1)])
def test_the_best_or_the_last_epoch_is_kept(tiny, toy_data, tmp_path, monkeypatch, task, keep, epoch):
    falling = iter([0.9, 0.1])
    monkeypatch.setattr(fa_net.metrics, "accuracy", lambda labels, predicted: next(falling))
    assert (
        main(["--stage=fa_net", *flags(toy_data, tmp_path, f"--task={task}", "--recipe=paper", f"--keep={keep}")]) == 0
    )
    history = read(tmp_path, "fa_net", "history.json")
    assert (history["best_epoch"], history["best_score"]) == (epoch, [0.9, 0.1][epoch - 1])
    kept, spec = networks.load(str(tmp_path / "fa_net"))
    # A checkpoint follows each epoch; recipe paper averages nothing, so it holds the judged weights themselves.
    trained = networks.build(spec)
    checkpoint = str(tmp_path / "fa_net" / "checkpoints" / f"ckpt-{epoch}")
    tf.train.Checkpoint(model=trained).restore(checkpoint).assert_existing_objects_matched()
    faces = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 1)).astype(np.float32)
    np.testing.assert_allclose(kept(faces), trained(faces), atol=1e-5)


@pytest.mark.parametrize("stage", ["fape_gan", "synthesize", "fa_net", "evaluate"])
def test_no_stage_goes_on_when_the_data_was_built_anew(trained, toy_data, tmp_path, stage):
    data = shutil.copytree(toy_data, tmp_path / "data")
    update(data, fingerprint="another split")
    with pytest.raises(InputError, match=r"was begun on data with fingerprint .*Received: another spli"):
        main([f"--stage={stage}", *flags(data, trained)])
    # The library's own call, which knows no run folder's config, refuses too.
    with pytest.raises(InputError, match="faces that it was trained on may be test faces here"):
        evaluate.run(of(TaskConfig, data=str(data), run_dir=trained, stage="evaluate", synthetic=False))


def test_a_run_records_the_images_of_its_networks_and_evaluating_an_earlier_versions_run_does(
    trained, toy_data, tmp_path
):
    recorded = lineage.read(trained)
    assert [(one.task, one.via, one.faces) for one in recorded] == [("er_ss", "", 96)]
    old = shutil.copytree(trained, tmp_path / "old")
    os.remove(old / "fa_net" / LINEAGE_FILE)
    assert lineage.read(str(old))[0].images is None
    assert main(["--stage=evaluate", *flags(toy_data, old)]) == 0
    assert lineage.read(str(old))[0].images.tolist() == recorded[0].images.tolist()


def test_synthetic_faces_that_are_not_there_are_told(toy_data, trained, tmp_path):
    with pytest.raises(InputError, match=r"`synthetic_from` .* has no synthetic faces"):
        fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=str(tmp_path), synthetic_from=trained))


def test_a_training_does_not_go_on_with_synthetic_faces_that_were_made_again(tiny, toy_data, tmp_path):
    def make(quality: int) -> None:
        faces = [face for face in DataFolder(toy_data).faces() if face.er_ss == "train"][:8]
        made = DataFolder(str(tmp_path / "synthetic")).face_file(0, 1)
        tfrecords.write(made, [schema.encode(synthetic_copy(face, quality)) for face in faces])
        files.write_json(str(tmp_path / "synthetic" / "plan.json"), {"options": {"gan": "weights"}})

    more = ("--synthetic=true", "--recipe=paper", "--synthetic_ratio=0.1", "--epochs=1")
    make(quality=95)
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)]) == 0
    os.remove(tmp_path / "fa_net" / "FINISHED")
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)]) == 0
    # As many faces of the same names as before.
    make(quality=50)
    with pytest.raises(InputError, match=r"trained on synthetic faces with fingerprint .* which were made since\."):
        main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)])
    os.remove(tmp_path / "fa_net" / "FINISHED")
    with pytest.raises(InputError, match=r"synthetic faces with fingerprint .* they were made again since"):
        main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)])


def synthetic_copy(face: schema.FaceRecord, quality: int) -> schema.FaceRecord:
    image = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_COLOR)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    sources = {"synthetic_source": face.image_id, "synthetic_target": face.image_id}
    return dataclasses.replace(face, image_id=f"synthetic/{face.image_id}", image=encoded, synthetic=1, **sources)


def test_other_flags_do_not_go_on_with_a_run(trained, toy_data, capsys):
    with pytest.raises(InputError, match=r"`learning_rate` was 0\.0 when this run began\. Received: 0\.5"):
        main(["--stage=fa_net", *flags(toy_data, trained, "--learning_rate=0.5")])


def test_data_whose_labels_do_not_fit_the_weights_is_refused(trained, toy_data, tmp_path):
    data = shutil.copytree(toy_data, tmp_path / "data")
    update(data, expressions=["angry", "happy", "sad", "disgust"])
    with pytest.raises(
        InputError, match=r"predicts the labels .*'surprise'.* Received data with the labels .*'disgust'"
    ):
        evaluate.run(of(TaskConfig, data=str(data), run_dir=trained, stage="evaluate"))


def test_an_unfinished_run_does_not_go_on_with_other_data(trained, toy_data, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "run")
    os.remove(copy / "fa_net" / "FINISHED")
    data = shutil.copytree(toy_data, tmp_path / "data")
    config = replace(
        of(TaskConfig, **read(trained, "config.json")["flags"]), data=str(data), run_dir=str(copy), epochs=3
    )
    update(data, fingerprint="another")
    with pytest.raises(InputError, match=r"the data changed since: take another --run_dir"):
        fa_net.run(config)
    update(data, expressions=["angry", "happy", "sad", "disgust"])
    with pytest.raises(InputError, match=r"was trained for the labels .*'surprise'"):
        fa_net.run(config)


def test_the_kept_statistics_are_those_of_whole_faces(trained, toy_data):
    kept, spec = networks.load(os.path.join(trained, "fa_net"))
    train = fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=trained)).parts["train"]
    norm = kept.get_layer("stem_norm")
    expected = [norm.moving_mean.numpy(), norm.moving_variance.numpy()]

    def measure(augmentation):
        batches = inputs.training_batches(
            train,
            spec.num_classes,
            image_size=spec.image_size,
            channels=spec.channels,
            crop=spec.crop,
            batch_size=32,
            steps_per_epoch=len(train) // 32,
            augmentation=augmentation,
            seed=0,
        )
        BatchStatistics(kept, batches.take(min(shown.STATISTICS_BATCHES, len(train) // 32))).refresh()
        return [norm.moving_mean.numpy(), norm.moving_variance.numpy()]

    for found, value in zip(measure(Augmentation(flip=True)), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-5)
    # Recipe `best` erases and turns in training; statistics of such faces are others.
    assert not np.allclose(measure(STRONG)[1], expected[1], rtol=1e-2)


def test_a_resumed_float16_run_keeps_its_loss_scale(tiny, toy_data, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    class Watch(keras.callbacks.Callback):
        """Lowers the scale once, and stops the run before its second epoch."""

        def __init__(self):
            super().__init__()
            self.seen, self.stopped = [], False

        def on_train_batch_end(self, batch, logs=None):
            optimizer = self.model.optimizer
            if not self.seen:
                optimizer.dynamic_scale.assign(64.0)
            self.seen.append((float(optimizer.dynamic_scale), int(optimizer.step_counter)))

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and not self.stopped:
                self.stopped = True
                raise Stop

    watch, steps = Watch(), 3  # 96 training faces in batches of 32
    monkeypatch.setattr(fa_net.tensorboard, "callbacks", lambda config: [watch])
    command = ["--stage=fa_net", *flags(toy_data, tmp_path, "--precision=mixed_float16", "--recipe=paper")]
    with pytest.raises(Stop):
        main(command)
    assert main(command) == 0
    # The first step has Keras's own scale: where its gradients are too large for float16, as on some processors, it
    # is skipped and not counted.
    first = watch.seen[0][1]
    assert first in (0, 1)
    assert watch.seen == [(64.0, first + step) for step in range(2 * steps)]


def test_nan_stops_the_run_with_step_and_learning_rate(tiny, toy_data, tmp_path, capfd):
    code = main(["--stage=fa_net", "--recipe=paper", *flags(toy_data, tmp_path, "--learning_rate=1e30")])
    assert code == 1
    error = capfd.readouterr().err
    assert "the loss became nan at step 1 (from 0) with learning rate 1e+30" in error
    assert not os.path.exists(tmp_path / "fa_net" / "best.weights.h5")


def test_a_class_without_a_training_face_is_warned_of_and_scored_zero(tiny, toy_data, tmp_path, caplog):
    data = shutil.copytree(toy_data, tmp_path / "data")
    rewrite(data, lambda face: None if (face.expression, face.er_ss) == ("sad", "train") else face)
    update(data, tasks={})
    run_dir = tmp_path / "run"
    with caplog.at_level("WARNING"):
        for stage in ("fa_net", "evaluate"):
            assert main([f"--stage={stage}", *flags(data, run_dir, "--epochs=1")]) == 0
    assert "no training face of sad, which the test part has" in caplog.text
    assert read(run_dir, "metrics.json")["test"]["by_class"]["sad"]["accuracy"] == 0.0


def test_a_run_lives_on_any_filesystem_that_tensorflow_knows(tiny, toy_data):
    run_dir = "ram://fa_net_runs/er_ss"
    for stage in ("fa_net", "evaluate"):
        assert main([f"--stage={stage}", *flags(toy_data, run_dir, "--epochs=1", "--recipe=paper")]) == 0
    assert files.read_json(f"{run_dir}/metrics.json")["test"]["faces"] == 32


def test_hosted_trainers_say_where_things_go(monkeypatch, tmp_path):
    monkeypatch.setenv("AIP_MODEL_DIR", str(tmp_path / "model"))
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", str(tmp_path / "logs"))
    config = TaskConfig()
    assert config.run.run_dir == str(tmp_path / "model")
    assert runtime.tensorboard_dir(config.folder) == str(tmp_path / "logs")
    assert of(TaskConfig, run_dir="elsewhere").run.run_dir == "elsewhere"
