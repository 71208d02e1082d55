"""A Fa-Net run leaves everything in its folder, and refuses what does not fit it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf import files
from fer_tf.config import of, replace
from fer_tf.data import inputs, schema
from fer_tf.data.augment import Augmentation
from fer_tf.data.folder import DataFolder
from fer_tf.data.public.fer2013 import EXPRESSIONS as FER2013_EXPRESSIONS
from fer_tf.errors import InputError
from fer_tf.evaluation import calibration
from fer_tf.models import fa_net as networks
from fer_tf.models import lineage
from fer_tf.run_folder import LINEAGE_FILE
from tests.fer_tf.data.test_inputs import rewrite, update
from trainer import evaluate, fa_net, runtime
from trainer.batch_statistics import BatchStatistics
from trainer.config import TaskConfig
from trainer.recipes import STRONG
from trainer.task import main
from trainer.teaching import mixed_labels, pupil

SMALL = ("--epochs=2", "--batch_size=32", "--image_size=16", "--precision=float32", "--synthetic=false")


def flags(data, run_dir, *more: str) -> list[str]:
    return [f"--data={data}", f"--run_dir={run_dir}", *SMALL, *more]


@pytest.fixture(scope="module")
def run_dir(toy_data, tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("run") / "er_ss")
    for stage in ("fa_net", "evaluate"):
        assert main([f"--stage={stage}", *flags(toy_data, folder)]) == 0
    return folder


def read(*parts: str):
    with open(os.path.join(*parts)) as file:
        return json.load(file)


def test_the_run_folder_tells_what_was_done(run_dir, toy_data):
    config = read(run_dir, "config.json")
    assert config["flags"]["epochs"] == 2 and config["flags"]["seed"] == 0
    assert set(config["versions"]) >= {"tensorflow", "keras", "python"}
    spec = networks.load_spec(os.path.join(run_dir, "fa_net"))
    assert spec.data_fingerprint == read(toy_data, "dataset.json")["fingerprint"]
    assert spec.expressions == ("angry", "happy", "sad", "surprise") and spec.task == "er_ss"
    history = read(run_dir, "fa_net", "history.json")
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
    with open(os.path.join(run_dir, "log.txt")) as file:
        assert len([line for line in file if " epoch " in line and "/2 " in line]) == 2
    assert os.path.exists(os.path.join(run_dir, "fa_net", "FINISHED"))


def test_tensorboard_has_learning_rate_and_speed(run_dir):
    tags = {
        (os.path.basename(os.path.dirname(path)), value.tag)
        for path in tf.io.gfile.glob(os.path.join(run_dir, "tensorboard", "fa_net", "*", "events*"))
        for event in tf.compat.v1.train.summary_iterator(path)
        for value in event.summary.value
    }
    assert tags >= {("train", f"epoch_{name}") for name in ("learning_rate", "images_per_second", "loss", "accuracy")}
    assert tags >= {("validation", "epoch_accuracy"), ("validation", "epoch_loss")}


def test_metrics_are_those_of_the_saved_predictions_and_weights(run_dir, toy_data):
    result = read(run_dir, "metrics.json")
    predictions = np.load(os.path.join(run_dir, "fa_net", "predictions_test.npz"))
    right = predictions["logits"].argmax(1) == predictions["label"]
    assert result["test"]["accuracy"] == pytest.approx(right.mean()) and len(right) == 32
    assert result["test"]["chance"] == 0.25
    model, spec = networks.load(os.path.join(run_dir, "fa_net"))
    part = fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=run_dir)).parts["test"]
    assert part.image_ids.tolist() == predictions["image_id"].tolist()
    np.testing.assert_allclose(fa_net.predict(model, part, spec), predictions["logits"], atol=1e-5)
    val = np.load(os.path.join(run_dir, "fa_net", "predictions_val.npz"))
    assert spec.temperature == pytest.approx(calibration.fit_temperature(val["logits"], val["label"]), rel=1e-3)


def test_the_page_stands_alone_and_names_the_score(run_dir):
    with open(os.path.join(run_dir, "evaluation.html")) as file:
        page = file.read()
    accuracy = read(run_dir, "metrics.json")["test"]["accuracy"]
    assert f"{100 * accuracy:.1f} %" in page and page.count("data:image/svg+xml") == 2
    assert "http://" not in page.replace("http://www.w3.org", "") and "bird_view" in page


def test_a_finished_stage_is_not_repeated_and_evaluation_gives_the_same_again(run_dir, toy_data):
    weights, before = os.path.join(run_dir, "fa_net", "best.weights.h5"), read(run_dir, "metrics.json")
    written = os.stat(weights).st_mtime_ns
    for stage in ("fa_net", "evaluate"):
        assert main([f"--stage={stage}", *flags(toy_data, run_dir)]) == 0
    after = read(run_dir, "metrics.json")
    # How fast it answered is measured each time.
    assert before.pop("images_per_second") > 0 and after.pop("images_per_second") > 0
    assert os.stat(weights).st_mtime_ns == written and after == before


def test_flip_is_a_choice_that_the_metrics_name(run_dir, toy_data, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    assert read(copy, "metrics.json")["tta"] == "none"
    assert main(["--stage=evaluate", *flags(toy_data, copy, "--tta=flip")]) == 0
    assert read(copy, "metrics.json")["tta"] == "flip"
    before, after = (np.load(f"{folder}/fa_net/predictions_test.npz")["logits"] for folder in (run_dir, copy))
    assert np.abs(before - after).max() > 1e-4


@pytest.mark.parametrize(
    ("task", "keep", "epoch"), [("er_ss", "auto", 1), ("er_ss", "last", 2), ("er_up", "auto", 2), ("er_up", "best", 1)]
)
def test_the_best_or_the_last_epoch_is_kept(toy_data, tmp_path, monkeypatch, task, keep, epoch):
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


@pytest.fixture
def small_fer2013(tmp_path) -> str:
    """FER2013's folder layout with a few drawn faces."""
    for part, count in (("train", 24), ("validation", 8)):
        for number in range(count):
            for label, expression in enumerate(FER2013_EXPRESSIONS):
                pixels = np.random.default_rng([label, number, count]).integers(0, 256, (48, 48), np.uint8)
                folder = tmp_path / "fer2013" / part / expression
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{part}_{number}.png"), pixels)
    return str(tmp_path / "fer2013")


def test_without_a_validation_part_the_last_epoch_and_the_first_networks_temperature_stay(
    small_fer2013, tmp_path, caplog
):
    first, run_dir = tmp_path / "first", tmp_path / "whole"
    start = flags(small_fer2013, first, "--task=fer2013", "--stage=fa_net")
    assert main(start) == 0
    fitted = networks.load_spec(str(first / "fa_net")).temperature
    with caplog.at_level("INFO"):
        for stage in ("fa_net", "evaluate"):
            more = ("--task=fer2013", f"--stage={stage}", "--held_out=0", f"--init_from={first}")
            assert main(flags(small_fer2013, run_dir, *more)) == 0
    assert "train: 168 faces" in caplog.text and "kept the last (epoch 2)" in caplog.text
    assert networks.load_spec(str(run_dir / "fa_net")).temperature == fitted != 1.0
    history = read(run_dir, "fa_net", "history.json")
    assert history["best_epoch"] == 2 and not any(name.startswith("val_") for name in history["history"][0])
    scores = read(run_dir, "metrics.json")
    assert scores["val"] == {"faces": 0} and scores["test"]["faces"] == 56 and scores["kept"] == "last"
    with open(run_dir / "evaluation.html") as file:
        assert "kept epoch 2, the last<" in file.read()
    with pytest.raises(InputError, match="`keep` 'best' needs a validation part"):
        main(flags(small_fer2013, tmp_path / "best", "--task=fer2013", "--held_out=0", "--keep=best"))


def test_a_first_network_that_may_know_the_validation_part_is_warned_of(small_fer2013, tmp_path, caplog):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    flags_of = ("--task=fer2013", "--stage=fa_net", "--epochs=1")
    assert main(flags(small_fer2013, whole, *flags_of, "--held_out=0")) == 0
    assert main(flags(small_fer2013, run_dir, *flags_of, f"--init_from={whole}")) == 0
    assert main(flags(small_fer2013, run_dir, *flags_of, f"--init_from={whole}", "--stage=evaluate")) == 0
    assert "which holds faces of val" in caplog.text
    notes = read(run_dir, "metrics.json")["notes"]
    assert notes[2] == "the weights were chosen on val" and "was trained on another part of this set" in notes[3]
    # What the network to begin with began with counts too.
    caplog.clear()
    assert main(flags(small_fer2013, tmp_path / "same", *flags_of, f"--teacher={run_dir}")) == 0
    assert f"`teacher` '{run_dir}' (by its init_from) was trained on another part of this set" in caplog.text
    # A network that has seen less is no reason.
    caplog.clear()
    held, more = tmp_path / "held", tmp_path / "more"
    assert main(flags(small_fer2013, held, *flags_of)) == 0
    assert main(flags(small_fer2013, more, *flags_of, "--held_out=0", f"--init_from={held}")) == 0
    assert "another part" not in caplog.text


def test_a_network_of_another_task_of_this_data_neither_begins_nor_teaches(run_dir, toy_data, tmp_path):
    for flag in ("init_from", "teacher"):
        with pytest.raises(InputError, match=rf"`{flag}` .* this data for the task 'er_ss', whose training part has"):
            main(["--stage=fa_net", *flags(toy_data, tmp_path, "--task=er_zid", f"--{flag}={run_dir}")])
    # Nothing was made, so the flags bind nobody: the same folder takes others.
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path, "--task=er_zid", "--epochs=1")]) == 0
    assert read(tmp_path, "config.json")["flags"]["init_from"] == ""


@pytest.mark.parametrize("stage", ["fape_gan", "synthesize", "fa_net", "evaluate"])
def test_no_stage_goes_on_when_the_data_was_built_anew(run_dir, toy_data, tmp_path, stage):
    data = shutil.copytree(toy_data, tmp_path / "data")
    update(data, fingerprint="another split")
    with pytest.raises(InputError, match=r"was begun on data with fingerprint .*Received: another spli"):
        main([f"--stage={stage}", *flags(data, run_dir)])
    # The library's own call, which knows no run folder's config, refuses too.
    with pytest.raises(InputError, match="faces that it was trained on may be test faces here"):
        evaluate.run(of(TaskConfig, data=str(data), run_dir=run_dir, stage="evaluate", synthetic=False))


def test_a_run_records_the_images_of_its_networks_and_evaluating_an_earlier_versions_run_does(
    run_dir, toy_data, tmp_path
):
    trained = lineage.read(run_dir)
    assert [(one.task, one.via, one.faces) for one in trained] == [("er_ss", "", 96)]
    old = shutil.copytree(run_dir, tmp_path / "old")
    os.remove(old / "fa_net" / LINEAGE_FILE)
    assert lineage.read(str(old))[0].images is None
    assert main(["--stage=evaluate", *flags(toy_data, old)]) == 0
    assert lineage.read(str(old))[0].images.tolist() == trained[0].images.tolist()


def test_synthetic_faces_that_are_not_there_are_told(toy_data, run_dir, tmp_path):
    with pytest.raises(InputError, match=r"`synthetic_from` .* has no synthetic faces"):
        fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=str(tmp_path), synthetic_from=run_dir))


def test_a_training_does_not_go_on_with_synthetic_faces_that_were_made_again(toy_data, tmp_path):
    def make(quality: int) -> None:
        faces = [face for face in DataFolder(toy_data).faces() if face.er_ss == "train"][:8]
        made = DataFolder(str(tmp_path / "synthetic")).face_file(0, 1)
        files.write_records(made, [schema.encode(synthetic_copy(face, quality)) for face in faces])
        files.write_json(str(tmp_path / "synthetic" / "plan.json"), {"options": {"gan": "weights"}})

    more = ("--synthetic=true", "--gan_recipe=paper", "--synthetic_ratio=0.1", "--epochs=1")
    make(quality=95)
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)]) == 0
    os.remove(tmp_path / "fa_net" / "FINISHED")
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)]) == 0
    # As many faces of the same names as before.
    make(quality=50)
    os.remove(tmp_path / "fa_net" / "FINISHED")
    with pytest.raises(InputError, match=r"synthetic faces with fingerprint .* they were made again since"):
        main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)])


def synthetic_copy(face: schema.FaceRecord, quality: int) -> schema.FaceRecord:
    image = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_COLOR)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    sources = {"synthetic_source": face.image_id, "synthetic_target": face.image_id}
    return dataclasses.replace(face, image_id=f"synthetic/{face.image_id}", image=encoded, synthetic=1, **sources)


def test_other_flags_do_not_go_on_with_a_run(run_dir, toy_data, capsys):
    with pytest.raises(InputError, match=r"`learning_rate` was 0\.0 when this run began\. Received: 0\.5"):
        main(["--stage=fa_net", *flags(toy_data, run_dir, "--learning_rate=0.5")])


def test_data_whose_labels_do_not_fit_the_weights_is_refused(run_dir, toy_data, tmp_path):
    data = shutil.copytree(toy_data, tmp_path / "data")
    update(data, expressions=["angry", "happy", "sad", "disgust"])
    with pytest.raises(
        InputError, match=r"predicts the labels .*'surprise'.* Received data with the labels .*'disgust'"
    ):
        evaluate.run(of(TaskConfig, data=str(data), run_dir=run_dir, stage="evaluate"))


def test_an_unfinished_run_does_not_go_on_with_other_data(run_dir, toy_data, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    os.remove(copy / "fa_net" / "FINISHED")
    data = shutil.copytree(toy_data, tmp_path / "data")
    config = replace(
        of(TaskConfig, **read(run_dir, "config.json")["flags"]), data=str(data), run_dir=str(copy), epochs=3
    )
    update(data, fingerprint="another")
    with pytest.raises(InputError, match=r"the data changed since: take another --run_dir"):
        fa_net.run(config)
    update(data, expressions=["angry", "happy", "sad", "disgust"])
    with pytest.raises(InputError, match=r"was trained for the labels .*'surprise'"):
        fa_net.run(config)


def test_a_new_task_begins_with_an_earlier_runs_weights_and_a_new_head(run_dir, toy_data, tmp_path):
    faces = fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=run_dir))
    other = dataclasses.replace(faces, expressions=("a", "b", "c"))
    config = of(TaskConfig, run_dir=str(tmp_path), image_size=16)
    spec = fa_net.spec_of(config, fa_net.recipe_of(config.task, config.fa_net), other)
    model = networks.build(spec, seed=9)
    fresh_head = model.get_layer("logits").get_weights()[0]
    fa_net.init_from(model, spec, run_dir)
    trained, _ = networks.load(os.path.join(run_dir, "fa_net"))
    for name in ("stem_conv", "stage4_conv_norm", "feature_dense"):
        for ours, theirs in zip(model.get_layer(name).weights, trained.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], fresh_head)


def test_init_from_takes_the_head_too_when_labels_are_equal_and_refuses_another_backbone(run_dir, toy_data, tmp_path):
    spec = networks.load_spec(os.path.join(run_dir, "fa_net"))
    model = networks.build(spec, seed=9)
    fa_net.init_from(model, spec, os.path.join(run_dir, "fa_net"))
    trained, _ = networks.load(os.path.join(run_dir, "fa_net"))
    np.testing.assert_array_equal(
        model.get_layer("logits").get_weights()[0], trained.get_layer("logits").get_weights()[0]
    )
    rgb = dataclasses.replace(spec, channels=3)
    with pytest.raises(InputError, match=r"light_cnn_9 with 1 channel\(s\); this run builds a light_cnn_9 with 3"):
        fa_net.init_from(networks.build(rgb), rgb, run_dir)


def test_a_light_cnn_29_grows_out_of_a_light_cnn_9_with_the_same_answers(run_dir):
    trained, spec = networks.load(os.path.join(run_dir, "fa_net"))
    deep = dataclasses.replace(spec, variant="light_cnn_29")
    model = networks.build(deep, seed=9)
    fa_net.init_from(model, deep, run_dir)
    faces = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)
    np.testing.assert_allclose(model(faces), trained(faces), atol=1e-5)
    blocks = {weight.path.split("/")[0] for weight in model.trainable_weights if "_block" in weight.path}
    assert len(blocks) == 10 * 4  # convolution and normalization, twice in each of 10 blocks
    # The second version pools and ends in another way, so its weights are no use.
    other = dataclasses.replace(spec, variant="light_cnn_29_v2")
    with pytest.raises(InputError, match="may also grow out of a light_cnn_9"):
        fa_net.init_from(networks.build(other), other, run_dir)


def test_the_kept_statistics_are_those_of_whole_faces(run_dir, toy_data):
    kept, spec = networks.load(os.path.join(run_dir, "fa_net"))
    train = fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=run_dir)).parts["train"]
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
        BatchStatistics(kept, batches.take(fa_net.STATISTICS_BATCHES)).refresh()
        return [norm.moving_mean.numpy(), norm.moving_variance.numpy()]

    for found, value in zip(measure(Augmentation(flip=True)), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-5)
    # Recipe `best` erases and turns in training; statistics of such faces are others.
    assert not np.allclose(measure(STRONG)[1], expected[1], rtol=1e-2)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_teachers_answers_to_the_changed_faces_are_mixed_into_the_labels(run_dir, mirror):
    model, spec = networks.load(os.path.join(run_dir, "fa_net"))
    faces = np.random.default_rng(0).random((6, 16, 16, 1), np.float32)
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
    teacher = fa_net.load_teacher(run_dir, spec)
    found = [mixed_labels(teacher, faces[part], labels[part], 0.25, mirror) for part in (slice(3), slice(3, 6))]
    seen = faces.copy()
    if mirror:
        # Every other face of each batch of three.
        seen[[0, 2, 3, 5]] = seen[[0, 2, 3, 5], :, ::-1]
    answers = calibration.softmax(model.predict(seen, verbose=0))
    np.testing.assert_allclose(np.concatenate(found), 0.75 * labels + 0.25 * answers, atol=1e-5)


@pytest.mark.parametrize("changes", [{"expressions": ("a", "b", "c", "d")}, {"crop": 0.5}, {"channels": 3}])
def test_a_teacher_of_another_question_is_refused(run_dir, changes):
    _, spec = networks.load(os.path.join(run_dir, "fa_net"))
    with pytest.raises(InputError, match=f"`teacher` .* has the {next(iter(changes))}"):
        fa_net.load_teacher(run_dir, dataclasses.replace(spec, **changes))


def test_a_teacher_sees_faces_at_its_own_size(tmp_path):
    spec = networks.FaNetSpec(expressions=("a", "b"), image_size=32)
    model = networks.build(spec, seed=3)
    networks.save(str(tmp_path), model, spec)
    # Of even light in each quarter: at half the size still the same, but at the borders of the quarters.
    faces = np.random.default_rng(0).random((6, 2, 2, 1), np.float32).repeat(32, 1).repeat(32, 2)
    teacher = fa_net.load_teacher(str(tmp_path), fa_net.with_size(spec, 64))
    found = mixed_labels(teacher, faces, np.eye(2, dtype=np.float32)[[0, 1] * 3], 1.0)
    answers = calibration.softmax(model.predict(faces[:, ::2, ::2], verbose=0))
    assert np.ptp(answers[:, 0]) > 0.05
    np.testing.assert_allclose(found, answers, atol=0.02)


def test_a_teacher_answers_inside_the_training_step(run_dir):
    model, spec = networks.load(os.path.join(run_dir, "fa_net"))
    faces = np.random.default_rng(0).random((8, 16, 16, 1), np.float32)
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 2]
    teacher = networks.build(spec, seed=7)
    taught = pupil(model, teacher, 0.5, mirror=True)
    # Keras compiles the step for the device that trains, and the teacher's weights stay out of the pupil's.
    assert [layer.name for layer in taught.layers] == [layer.name for layer in model.layers]
    assert all(ours is theirs for ours, theirs in zip(taught.weights, model.weights, strict=True))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    seen = []
    taught.compile(keras.optimizers.SGD(0.0), lambda *answers: seen.append(answers[0]) or loss(*answers))
    taught.run_eagerly = True
    taught.train_on_batch(faces, labels)
    np.testing.assert_allclose(seen[0], mixed_labels(teacher, faces, labels, 0.5, mirror=True), atol=1e-6)
    assert np.abs(seen[0] - labels).max() > 0.1


def test_a_run_with_a_teacher_learns_from_the_mixed_labels(run_dir, toy_data, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(fa_net, "pupil", lambda *args: calls.append(args[2:]) or pupil(*args))
    more = (f"--teacher={run_dir}", "--teacher_weight=0.3", "--epochs=1")
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path, *more)]) == 0
    # Recipe `best` mirrors faces in training.
    assert calls == [(0.3, True)]
    assert os.path.exists(tmp_path / "fa_net" / "FINISHED")


def test_a_resumed_float16_run_keeps_its_loss_scale(toy_data, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def tiny(spec, **options):
        """Convolutions in float16 take a minute on a CPU."""
        shape = (spec.image_size, spec.image_size, spec.channels)
        layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(spec.num_classes, dtype="float32")]
        return keras.Sequential(layers)

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
    monkeypatch.setattr(networks, "build", tiny)
    monkeypatch.setattr(fa_net.tensorboard, "callbacks", lambda config: [watch])
    command = ["--stage=fa_net", *flags(toy_data, tmp_path, "--precision=mixed_float16", "--recipe=paper")]
    with pytest.raises(Stop):
        main(command)
    assert main(command) == 0
    assert watch.seen == [(64.0, step) for step in range(1, 2 * steps + 1)]


def test_nan_stops_the_run_with_step_and_learning_rate(toy_data, tmp_path, capfd):
    code = main(["--stage=fa_net", "--recipe=paper", *flags(toy_data, tmp_path, "--learning_rate=1e30")])
    assert code == 1
    error = capfd.readouterr().err
    assert "the loss became nan at step 1 (from 0) with learning rate 1e+30" in error
    assert not os.path.exists(tmp_path / "fa_net" / "best.weights.h5")


def test_a_class_without_a_training_face_is_warned_of_and_scored_zero(toy_data, tmp_path, caplog):
    data = shutil.copytree(toy_data, tmp_path / "data")
    rewrite(data, lambda face: None if (face.expression, face.er_ss) == ("sad", "train") else face)
    update(data, tasks={})
    run_dir = tmp_path / "run"
    with caplog.at_level("WARNING"):
        for stage in ("fa_net", "evaluate"):
            assert main([f"--stage={stage}", *flags(data, run_dir, "--epochs=1")]) == 0
    assert "no training face of sad, which the test part has" in caplog.text
    assert read(run_dir, "metrics.json")["test"]["by_class"]["sad"]["accuracy"] == 0.0


def test_a_run_lives_on_any_filesystem_that_tensorflow_knows(toy_data):
    run_dir = "ram://fa_net_runs/er_ss"
    for stage in ("fa_net", "evaluate"):
        assert main([f"--stage={stage}", *flags(toy_data, run_dir, "--epochs=1")]) == 0
    assert files.read_json(f"{run_dir}/metrics.json")["test"]["faces"] == 32


def test_hosted_trainers_say_where_things_go(monkeypatch, tmp_path):
    monkeypatch.setenv("AIP_MODEL_DIR", str(tmp_path / "model"))
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", str(tmp_path / "logs"))
    config = TaskConfig()
    assert config.run.run_dir == str(tmp_path / "model")
    assert runtime.tensorboard_dir(config.folder) == str(tmp_path / "logs")
    assert of(TaskConfig, run_dir="elsewhere").run.run_dir == "elsewhere"
