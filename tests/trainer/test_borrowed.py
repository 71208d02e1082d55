"""A run begins with another network's weights, or learns from its answers; what that network has seen counts."""

from __future__ import annotations

import dataclasses
import os

import cv2
import keras
import numpy as np
import pytest

from fer_tf import files
from fer_tf.config import of
from fer_tf.data.public.fer2013 import EXPRESSIONS as FER2013_EXPRESSIONS
from fer_tf.errors import InputError
from fer_tf.evaluation import calibration
from fer_tf.models import fa_net as networks
from fer_tf.models import lineage
from fer_tf.run_folder import SPEC_FILE
from tests.trainer.conftest import flags, read
from trainer import borrowed, fa_net
from trainer.config import TaskConfig
from trainer.recipes import recipe_of
from trainer.task import main
from trainer.teaching import mixed_labels, student


def untrained(config: TaskConfig, temperature: float = 1.0) -> str:
    """Writes a run folder as a training leaves it, but that the network has its random weights still."""
    faces = fa_net.read_faces(config)
    spec = fa_net.spec_of(config, recipe_of(config.task, config.fa_net), faces)
    spec = dataclasses.replace(spec, temperature=temperature)
    networks.save(config.folder.fa_net.path, networks.build(spec, seed=1), spec)
    borrowed.record_lineage(config, faces)
    return config.folder.path


@pytest.fixture(scope="module")
def network(toy_data, tmp_path_factory) -> str:
    """The folder of a Fa-Net of er_ss."""
    run_dir = str(tmp_path_factory.mktemp("run") / "er_ss")
    return untrained(of(TaskConfig, data=toy_data, run_dir=run_dir, image_size=16))


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
    tiny, small_fer2013, tmp_path, caplog
):
    first, run_dir = f"{tmp_path}/first", tmp_path / "whole"
    untrained(of(TaskConfig, task="fer2013", data=small_fer2013, run_dir=first, image_size=16), temperature=1.7)
    with caplog.at_level("INFO"):
        for stage in ("fa_net", "evaluate"):
            more = ("--task=fer2013", f"--stage={stage}", "--held_out=0", f"--init_from={first}")
            assert main(flags(small_fer2013, run_dir, *more)) == 0
    assert "train: 168 faces" in caplog.text and "kept the last (epoch 2)" in caplog.text
    assert networks.load_spec(str(run_dir / "fa_net")).temperature == 1.7
    history = read(run_dir, "fa_net", "history.json")
    assert history["best_epoch"] == 2 and not any(name.startswith("val_") for name in history["history"][0])
    scores = read(run_dir, "metrics.json")
    assert scores["val"] == {"faces": 0} and scores["test"]["faces"] == 56 and scores["kept"] == "last"
    with open(run_dir / "evaluation.html") as file:
        assert "kept epoch 2, the last<" in file.read()
    with pytest.raises(InputError, match="`keep` 'best' needs a validation part"):
        main(flags(small_fer2013, tmp_path / "best", "--task=fer2013", "--held_out=0", "--keep=best"))


def test_a_first_network_gives_its_temperature_before_a_teacher_does(small_fer2013, tmp_path):
    def config(**changes: object) -> TaskConfig:
        about = {"task": "fer2013", "data": small_fer2013, "image_size": 16, "run_dir": f"{tmp_path}/run"}
        return of(TaskConfig, **about, **changes)

    for name, temperature in (("first", 1.7), ("teacher", 0.8)):
        about = {"task": "fer2013", "data": small_fer2013, "image_size": 16, "run_dir": f"{tmp_path}/{name}"}
        untrained(of(TaskConfig, **about), temperature)
    faces = fa_net.read_faces(config())
    first, teacher = {"init_from": f"{tmp_path}/first"}, {"teacher": f"{tmp_path}/teacher"}
    both = {"teacher": f"{tmp_path}/first+{tmp_path}/teacher"}
    for sources, expected in (({}, 1.0), (first, 1.7), (teacher, 0.8), (first | teacher, 1.7), (both, 1.25)):
        assert borrowed.first_temperature(config(**sources), faces) == expected
    # Whose labels are others' answers another question.
    fewer = dataclasses.replace(faces, expressions=faces.expressions[:-1])
    assert borrowed.first_temperature(config(**first, **teacher), fewer) == 1.0


def test_a_first_network_that_may_know_the_validation_part_is_warned_of(tiny, small_fer2013, tmp_path, caplog):
    def config(name: str, **changes: object) -> TaskConfig:
        about = {"task": "fer2013", "data": small_fer2013, "image_size": 16, "run_dir": f"{tmp_path}/{name}"}
        return of(TaskConfig, **about, **changes)

    def notes(made: TaskConfig) -> tuple[str, ...]:
        return borrowed.check(made, fa_net.read_faces(made))

    whole, run_dir = untrained(config("whole", held_out=0.0)), str(tmp_path / "run")
    for stage in ("fa_net", "evaluate"):
        more = ("--task=fer2013", f"--stage={stage}", "--epochs=1", f"--init_from={whole}")
        assert main(flags(small_fer2013, run_dir, *more)) == 0
    assert "which holds faces of val" in caplog.text
    told = read(run_dir, "metrics.json")["notes"]
    assert told[2] == "the weights were chosen on val" and "was trained on another part of this set" in told[3]
    # What the network to begin with began with counts too.
    (note,) = notes(config("same", teacher=run_dir))
    assert f"`teacher` '{run_dir}' (by its init_from) was trained on another part of this set" in note
    # A network that has seen less is no reason.
    assert notes(config("more", held_out=0.0, init_from=untrained(config("held")))) == ()


def test_a_network_of_another_task_of_this_data_neither_begins_nor_teaches(network, tiny, toy_data, tmp_path):
    for flag in ("init_from", "teacher"):
        with pytest.raises(InputError, match=rf"`{flag}` .* this data for the task 'er_ss', whose training part has"):
            main(["--stage=fa_net", *flags(toy_data, tmp_path, "--task=er_zid", f"--{flag}={network}")])
    # Nothing was made, so the flags bind nobody: the same folder takes others.
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path, "--task=er_zid", "--epochs=1", "--recipe=paper")]) == 0
    assert read(tmp_path, "config.json")["flags"]["init_from"] == ""


def test_a_new_task_begins_with_an_earlier_runs_weights_and_of_its_head_the_classes_of_the_same_name(
    network, toy_data, tmp_path, caplog
):
    faces = fa_net.read_faces(of(TaskConfig, data=toy_data, run_dir=network))
    other = dataclasses.replace(faces, expressions=("contempt", "surprise", "angry", "disgust", "fear"))
    config = of(TaskConfig, run_dir=str(tmp_path), image_size=16)
    spec = fa_net.spec_of(config, recipe_of(config.task, config.fa_net), other)
    model = networks.build(spec, seed=9)
    fresh = model.get_layer("logits").get_weights()
    with caplog.at_level("INFO"):
        borrowed.init_from(model, spec, network)
    assert "2 classes have its weights, new are contempt, disgust, fear" in caplog.text
    source, known = networks.load(os.path.join(network, "fa_net"))
    for name in ("stem_conv", "stage4_conv_norm", "feature_dense"):
        for ours, theirs in zip(model.get_layer(name).weights, source.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    faces = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)
    answers, theirs = model(faces).numpy(), source(faces).numpy()
    for place, name in ((1, "surprise"), (2, "angry")):
        np.testing.assert_allclose(answers[:, place], theirs[:, known.expressions.index(name)], atol=1e-6)
    for ours, before in zip(model.get_layer("logits").get_weights(), fresh, strict=True):
        np.testing.assert_array_equal(ours[..., [0, 3, 4]], before[..., [0, 3, 4]])


def test_init_from_takes_the_head_too_when_labels_are_equal_and_refuses_another_backbone(network, toy_data, tmp_path):
    spec = networks.load_spec(os.path.join(network, "fa_net"))
    model = networks.build(spec, seed=9)
    borrowed.init_from(model, spec, os.path.join(network, "fa_net"))
    source, _ = networks.load(os.path.join(network, "fa_net"))
    np.testing.assert_array_equal(
        model.get_layer("logits").get_weights()[0], source.get_layer("logits").get_weights()[0]
    )
    rgb = dataclasses.replace(spec, channels=3)
    with pytest.raises(InputError, match=r"light_cnn_9 with 1 channel\(s\); this run builds a light_cnn_9 with 3"):
        borrowed.init_from(networks.build(rgb), rgb, network)


def test_borrowed_kernels_are_brought_to_a_recipes_small_ones_and_the_answers_stay(network):
    model, _ = networks.load(os.path.join(network, "fa_net"))
    faces = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)
    before = model(faces).numpy()
    borrowed.shrink_kernels(model, 0.05)
    for name in ("stem_conv", "stage2_conv", "stage4_reduce_conv"):
        kernel = model.get_layer(name).kernel.numpy()
        assert np.mean(kernel**2) * kernel[..., 0].size == pytest.approx(0.05, rel=1e-3)
    np.testing.assert_allclose(model(faces).numpy(), before, atol=0.02 * np.abs(before).max())


def test_a_light_cnn_29_grows_out_of_a_light_cnn_9_with_the_same_answers(network):
    source, spec = networks.load(os.path.join(network, "fa_net"))
    deep = dataclasses.replace(spec, variant="light_cnn_29")
    model = networks.build(deep, seed=9)
    borrowed.init_from(model, deep, network)
    faces = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)
    np.testing.assert_allclose(model(faces), source(faces), atol=1e-5)
    blocks = {weight.path.split("/")[0] for weight in model.trainable_weights if "_block" in weight.path}
    assert len(blocks) == 10 * 4  # convolution and normalization, twice in each of 10 blocks
    # The second version pools and ends in another way, so its weights are no use.
    other = dataclasses.replace(spec, variant="light_cnn_29_v2")
    with pytest.raises(InputError, match="may also grow out of a light_cnn_9"):
        borrowed.init_from(networks.build(other), other, network)


def test_a_dlib_resnet_goes_on_from_a_dlib_resnet_and_not_from_a_light_cnn(network, tmp_path):
    spec = dataclasses.replace(networks.load_spec(os.path.join(network, "fa_net")), variant="dlib_resnet")
    source = networks.build(spec, seed=1)
    networks.save(str(tmp_path), source, spec)
    model = networks.build(spec, seed=9)
    borrowed.init_from(model, spec, str(tmp_path))
    for ours, theirs in zip(model.weights, source.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(InputError, match=r"holds a light_cnn_9 with 1 channel\(s\); this run builds a dlib_resnet"):
        borrowed.init_from(model, spec, network)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_teachers_answers_to_the_changed_faces_are_mixed_into_the_labels(network, mirror):
    model, spec = networks.load(os.path.join(network, "fa_net"))
    faces = np.random.default_rng(0).random((6, 16, 16, 1), np.float32)
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
    teacher = borrowed.load_teacher(network, spec)
    found = [mixed_labels(teacher, faces[part], labels[part], 0.25, mirror) for part in (slice(3), slice(3, 6))]
    seen = faces.copy()
    if mirror:
        # Every other face of each batch of three.
        seen[[0, 2, 3, 5]] = seen[[0, 2, 3, 5], :, ::-1]
    answers = calibration.softmax(model.predict(seen, verbose=0))
    np.testing.assert_allclose(np.concatenate(found), 0.75 * labels + 0.25 * answers, atol=1e-5)


def test_several_teachers_teach_the_mean_of_their_answers(network, tmp_path):
    first, spec = networks.load(os.path.join(network, "fa_net"))
    second = networks.build(spec, seed=8)
    networks.save(str(tmp_path), second, dataclasses.replace(spec, temperature=0.5))
    faces = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    teacher = borrowed.load_teacher(f"{network}+{tmp_path}", spec)
    found = mixed_labels(teacher, faces, np.eye(4, dtype=np.float32), 1.0)
    # As one teacher's, their answers are as they were trained: no temperature.
    answers = [calibration.softmax(model.predict(faces, verbose=0)) for model in (first, second)]
    np.testing.assert_allclose(found, np.mean(answers, axis=0), atol=1e-5)
    assert np.abs(answers[0] - answers[1]).max() > 0.05


@pytest.mark.parametrize("changes", [{"expressions": ("a", "b", "c", "d")}, {"crop": 0.5}, {"channels": 3}])
def test_a_teacher_of_another_question_is_refused(network, changes):
    _, spec = networks.load(os.path.join(network, "fa_net"))
    with pytest.raises(InputError, match=f"`teacher` .* has the {next(iter(changes))}"):
        borrowed.load_teacher(network, dataclasses.replace(spec, **changes))


def test_a_teacher_sees_faces_at_its_own_size(tmp_path):
    spec = networks.FaNetSpec(expressions=("a", "b"), image_size=32)
    model = networks.build(spec, seed=3)
    networks.save(str(tmp_path), model, spec)
    # Of even light in each quarter: at half the size still the same, but at the borders of the quarters.
    faces = np.random.default_rng(0).random((6, 2, 2, 1), np.float32).repeat(32, 1).repeat(32, 2)
    teacher = borrowed.load_teacher(str(tmp_path), dataclasses.replace(spec, image_size=64))
    found = mixed_labels(teacher, faces, np.eye(2, dtype=np.float32)[[0, 1] * 3], 1.0)
    answers = calibration.softmax(model.predict(faces[:, ::2, ::2], verbose=0))
    assert np.ptp(answers[:, 0]) > 0.05
    np.testing.assert_allclose(found, answers, atol=0.02)


def test_a_teacher_answers_inside_the_training_step(network):
    model, spec = networks.load(os.path.join(network, "fa_net"))
    faces = np.random.default_rng(0).random((8, 16, 16, 1), np.float32)
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 2]
    teacher = networks.build(spec, seed=7)
    taught = student(model, teacher, 0.5, mirror=True)
    # Keras compiles the step for the device that trains, and the teacher's weights stay out of the student's.
    assert [layer.name for layer in taught.layers] == [layer.name for layer in model.layers]
    assert all(ours is theirs for ours, theirs in zip(taught.weights, model.weights, strict=True))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    seen = []
    taught.compile(keras.optimizers.SGD(0.0), lambda *answers: seen.append(answers[0]) or loss(*answers))
    taught.run_eagerly = True
    taught.train_on_batch(faces, labels)
    np.testing.assert_allclose(seen[0], mixed_labels(teacher, faces, labels, 0.5, mirror=True), atol=1e-6)
    assert np.abs(seen[0] - labels).max() > 0.1


def test_a_run_with_a_teacher_learns_from_the_mixed_labels(tiny, toy_data, tmp_path, monkeypatch):
    calls, teacher = [], untrained(of(TaskConfig, data=toy_data, run_dir=f"{tmp_path}/teacher", image_size=16))
    monkeypatch.setattr(fa_net, "student", lambda *args: calls.append(args[2:]) or student(*args))
    more = (f"--teacher={teacher}", "--teacher_weight=0.3", "--epochs=1")
    assert main(["--stage=fa_net", *flags(toy_data, tmp_path / "run", *more)]) == 0
    # Recipe `best` mirrors faces in training.
    assert calls == [(0.3, True)]
    assert os.path.exists(tmp_path / "run" / "fa_net" / "FINISHED")


def test_what_an_attempt_without_a_checkpoint_left_tells_nothing_of_the_training_after_it(toy_data, network, tmp_path):
    first = of(TaskConfig, data=toy_data, run_dir=str(tmp_path / "run"), image_size=16)
    faces = fa_net.read_faces(first)
    borrowed.record_lineage(first, faces)
    later = dataclasses.replace(first, task="er_zid", fa_net=dataclasses.replace(first.fa_net, init_from=network))
    borrowed.record_lineage(later, fa_net.read_faces(later))
    assert {training.task for training in lineage.read(first.folder.fa_net.path)} == {"er_zid", "er_ss"}
    # A training that goes on keeps what it was begun with.
    recorded = files.join(first.folder.fa_net.path, lineage.LINEAGE_FILE)
    kept = files.read_bytes(recorded)
    for made in (
        files.join(first.folder.fa_net.checkpoints, "checkpoint"),
        files.join(first.folder.fa_net.path, SPEC_FILE),
    ):
        # A checkpoint; or weights without one, as an average of networks has them.
        files.write_text(made, "")
        borrowed.record_lineage(first, faces)
        assert files.read_bytes(recorded) == kept
        files.delete(made)
