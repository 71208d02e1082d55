"""A network that has seen a tested face takes no part in the training of the network that is tested on it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.data.inputs import FaceSet, read_records
from fer_tf.errors import InputError
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.run_folder import LINEAGE_FILE
from tests.fer_tf.data.test_inputs import rewrite, update
from tests.toy_data import part_of as part
from tests.toy_data import write_toy_data

EXPRESSIONS = ("angry", "happy", "sad", "surprise")


def rebuilt(data: str, folder: Path, change=lambda record: record) -> str:
    """The same clips split otherwise: two of the persons whom er_zid trained on are held out, as with another seed."""
    splits = {"T001": "test", "T002": "val"}

    def split(record):
        tag = splits.get(record.person, "train")
        return change(dataclasses.replace(record, er_ss=tag, er_ue=tag, er_up=tag, er_zid=tag))

    copy = shutil.copytree(data, folder / "rebuilt")
    rewrite(copy, split)
    update(copy, fingerprint="toy-other-seed")
    return str(copy)


def saved(folder: Path, faces: FaceSet, task: str, recorded: bool = True, **borrowed: str) -> str:
    """A Fa-Net that says it was trained on some faces; with `recorded` false as an earlier version left it."""
    spec = FaNetSpec(faces.expressions, image_size=16, task=task, data_fingerprint=faces.fingerprint)
    fa_net.save_spec(str(folder), spec)
    if recorded:
        lineage.write(str(folder), lineage.of_training(faces, task, borrowed))
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_toy_data(str(tmp_path_factory.mktemp("toy")), persons=4, frames=1)


@pytest.fixture(scope="module")
def faces(data: str) -> FaceSet:
    return read_records(data, "er_zid")


@pytest.fixture(scope="module")
def other(data: str, tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """The same clips with persons T001 and T002 held out, not T000 and T003."""
    return read_records(rebuilt(data, tmp_path_factory.mktemp("other")), "er_zid")


@pytest.fixture
def network(faces: FaceSet, tmp_path: Path) -> str:
    return saved(tmp_path / "network", faces, "er_zid")


@pytest.mark.parametrize("role", ["init_from", "teacher", "gan_face_net"])
def test_after_a_rebuild_with_another_seed_a_network_of_the_earlier_split_is_refused(network, other, role):
    for source in (network, f"pretrained+{network}"):
        with pytest.raises(InputError, match=rf"`{role}` .*trained on faces that 'er_zid' tests here.*about 50\.0%"):
            lineage.check(role, source, other, "er_zid")


def test_a_network_of_another_task_of_this_data_is_refused_and_one_of_this_task_is_not(data, faces, network):
    assert lineage.check("teacher", network, faces, "er_zid") == ()
    with pytest.raises(InputError, match="trained on this data for the task 'er_zid', whose training part has faces"):
        lineage.check("teacher", network, read_records(data, "er_up"), "er_up")


def test_what_a_networks_teacher_has_seen_counts_too(network, other, tmp_path):
    # It was trained on nothing that is tested, but by a teacher that was.
    blank = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    elsewhere = FaceSet(EXPRESSIONS, {"train": part(["x"], [0], [blank])}, "elsewhere")
    pupil = saved(tmp_path / "pupil", elsewhere, "er_zid", teacher=network)
    with pytest.raises(InputError, match=r"`init_from` .*pupil' \(by its teacher\) was trained on faces that"):
        lineage.check("init_from", pupil, other, "er_zid")
    grandchild = saved(tmp_path / "grandchild", elsewhere, "er_zid", init_from=pupil)
    with pytest.raises(InputError, match=r"\(by its init_from's teacher\)"):
        lineage.check("gan_face_net", grandchild, other, "er_zid")


def test_faces_that_were_encoded_anew_are_known_by_their_names(data, network, tmp_path):
    def encode_anew(record):
        pixels = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_COLOR)
        return dataclasses.replace(
            record, image=cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        )

    other = read_records(rebuilt(data, tmp_path, encode_anew), "er_zid")
    with pytest.raises(InputError, match=r"trained on faces that 'er_zid' tests here"):
        lineage.check("teacher", network, other, "er_zid")


def test_synthetic_faces_do_not_hide_that_the_real_ones_are_known(data, faces, tmp_path):
    """Most names of a training may be of generated faces, which are in no other data."""
    ids = faces.parts["train"].image_ids
    images = list(map(bytes, (image for image, _ in faces.parts["train"].encoded().as_numpy_iterator())))
    names = [*ids, *(f"synthetic/{name}>{name}" for name in ids for _ in range(3))]
    both = part(names, [0] * len(names), [*images, *(image + b" " for image in images for _ in range(3))])
    network = saved(tmp_path / "network", dataclasses.replace(faces, parts={**faces.parts, "train": both}), "er_zid")
    other = read_records(
        rebuilt(data, tmp_path, lambda record: dataclasses.replace(record, image=record.image + b"+")), "er_zid"
    )
    with pytest.raises(InputError, match=r"trained on faces that 'er_zid' tests here.*about 50\.0%"):
        lineage.check("teacher", network, other, "er_zid")


def test_faces_of_other_clips_with_some_equal_names_are_no_reason(data, network, tmp_path):
    rng = np.random.default_rng(0)

    def other_clip(record):
        pixels = rng.integers(0, 256, (64, 64), np.uint8)
        number = record.frame + int(rng.integers(0, 6))
        image = cv2.imencode(".jpg", pixels)[1].tobytes()
        return dataclasses.replace(record, image_id=f"{record.clip_id}#{number:06d}", image=image)

    other = read_records(rebuilt(data, tmp_path, other_clip), "er_zid")
    assert lineage.check("teacher", network, other, "er_zid") == ()


def test_a_network_of_an_earlier_version_is_refused_where_its_images_cannot_be_told(data, faces, other, tmp_path):
    old = saved(tmp_path / "old", faces, "er_zid", recorded=False)
    assert lineage.check("init_from", old, faces, "er_zid") == ()
    with pytest.raises(InputError, match="trained on this data for the task 'er_zid'"):
        lineage.check("init_from", old, read_records(data, "er_ss"), "er_ss")
    with pytest.raises(InputError, match=r"did not record its images.*--stage=evaluate` once with that run's flags"):
        lineage.check("init_from", old, other, "er_zid")
    # The published network is of a public set, which shares no image with a corpus.
    assert lineage.check("init_from", "pretrained", other, "er_zid") == ()


def test_test_images_that_a_public_set_also_trains_on_are_its_own_matter(tmp_path):
    images = [cv2.imencode(".png", np.full((8, 8), 40 * number, np.uint8))[1].tobytes() for number in range(5)]
    train, twin = part(["a", "b", "c"], [0, 1, 0], images[:3]), part(["t", "u"], [0, 1], [images[1], images[4]])
    whole = FaceSet(("x", "y"), {"train": train, "val": part([], [], []), "test": twin}, "whole")
    held = FaceSet(("x", "y"), {**whole.parts, "train": train.rows(np.array([], int)), "val": train}, "held")
    held = dataclasses.replace(held, parts={**held.parts, "train": part(["b", "c"], [1, 0], images[1:3])})
    network = saved(tmp_path / "whole", whole, "fer2013")
    (note,) = lineage.check("init_from", network, held, "fer2013")
    assert "holds faces of val" in note


@pytest.mark.parametrize(
    ("source", "task", "sets", "told"),
    [
        # The published network saw all of FER2013's Training, of whose pictures FER+ has other labels.
        ("pretrained", "fer2013", (), True),
        ("pretrained", "ferplus", (), True),
        ("pretrained", "mixed", ("er_zid", "ferplus"), True),
        ("pretrained", "mixed", ("er_zid", "jaffe"), False),
        ("pretrained", "jaffe", (), False),
        ("csv", "ferplus", (), True),
        ("csv", "jaffe", (), False),
    ],
)
def test_a_training_part_that_another_layout_or_labelling_of_its_pictures_holds_out_is_told(
    tmp_path, source, task, sets, told
):
    def images(side):
        return [cv2.imencode(".png", np.full((side, side), 40 * number, np.uint8))[1].tobytes() for number in range(4)]

    def faces_of(names, side, **more):
        parts = {"train": part(names, [0, 1], images(side)[:2]), "val": part([f"{names}v"], [0], images(side)[2:3])}
        return FaceSet(("x", "y"), {**parts, "test": part([f"{names}t"], [0], images(side)[3:])}, f"{side}", **more)

    csv = saved(tmp_path / "csv", faces_of("ab", 8), "fer2013")
    here = faces_of("cd", 9, val_of_training=True, set_classes=dict.fromkeys(sets, (0, 1)))
    notes = lineage.check("init_from", csv if source == "csv" else source, here, task)
    assert len(notes) == told and all("may hold val" in note for note in notes)
    # Without a part held out of Training there is nothing to tell.
    assert lineage.check("teacher", csv, dataclasses.replace(here, val_of_training=False), task) == ()


def test_the_lineage_reads_as_it_was_written_and_damage_is_named(faces, network):
    (found,) = lineage.read(network)
    assert (found.task, found.fingerprint, found.via, found.faces) == ("er_zid", faces.fingerprint, "", 32)
    assert found.images.tolist() == sorted(set(lineage.hashes_of(faces.parts["train"])[0].tolist()))
    path = os.path.join(network, LINEAGE_FILE)
    Path(path).write_text(json.dumps({"trainings": [{"task": "er_zid"}]}))
    with pytest.raises(InputError, match=r"lineage\.json is damaged: 'images'; train the network again"):
        lineage.read(network)


def test_a_larger_set_is_sampled_and_a_share_of_it_still_found(monkeypatch, faces, other, tmp_path):
    monkeypatch.setattr(lineage, "SAMPLE", 16)
    few = saved(tmp_path / "few", faces, "er_zid")
    (found,) = lineage.read(few)
    assert len(found.images) == len(found.names) == 16 and found.faces == 32
    with pytest.raises(InputError, match="trained on faces that 'er_zid' tests here"):
        lineage.check("teacher", few, other, "er_zid")


def test_hashes_of_images_are_the_same_in_every_version():
    # They are compared with those of networks that were trained long ago.
    faces = part(["a"], [0], [b"face"])
    assert [int(values[0]) for values in lineage.hashes_of(faces)] == [3817878044327678980, 3694432073954588132]


def test_a_network_is_judged_on_its_own_data_and_task_alone(faces):
    spec = FaNetSpec(EXPRESSIONS, task="er_ss", data_fingerprint=faces.fingerprint)
    lineage.check_judged(spec, faces, "run", "er_ss")
    with pytest.raises(InputError, match="faces that it was trained on may be test faces here"):
        lineage.check_judged(dataclasses.replace(spec, data_fingerprint="other"), faces, "run")
    with pytest.raises(InputError, match=r"trained for the task 'er_ss'\. Received: 'er_up'"):
        lineage.check_judged(spec, faces, "run", "er_up")
