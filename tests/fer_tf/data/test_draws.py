"""Another draw of the splits: what a build with that seed gives, read by every reader, without a new record."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import draws, inputs, pairs, schema, tasks
from fer_tf.data.folder import DataFolder
from fer_tf.data.tasks import FaceKeys, stable_hash
from fer_tf.errors import InputError
from fer_tf.labels import SPLITS, TASKS
from fer_tf.models import fa_net, lineage
from fer_tf.synthesis.plan import training_faces
from tests.fer_tf.data.test_inputs import update


@pytest.fixture(scope="module")
def drawn(toy_data: str, tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    return draws.draw(DataFolder(toy_data), str(tmp_path_factory.mktemp("draw") / "1"), 1)


@pytest.fixture(scope="module")
def expected(toy_data: str) -> dict[str, dict[str, str]]:
    """Each face's part by task and image id, by the rule of the tasks itself."""
    faces, dataset = list(DataFolder(toy_data).faces()), DataFolder(toy_data).dataset

    def hashes(name: str) -> np.ndarray:
        return np.array([stable_hash(getattr(face, name)) for face in faces], np.uint64)

    keys = FaceKeys(
        *map(hashes, ("image_id", "clip_id", "clip_group", "person")),
        np.array([face.expression_id for face in faces]),
        np.array([face.pose_id for face in faces]),
    )
    options = tasks.TaskOptions(seed=1, rare_pose=dataset["poses"][1])
    splits = tasks.split(keys, tasks.plan(keys, dataset["expressions"], dataset["poses"], options))
    return {
        task: {face.image_id: SPLITS[code] for face, code in zip(faces, splits[task], strict=True)} for task in TASKS
    }


@pytest.mark.parametrize("task", TASKS)
def test_every_reader_of_a_draw_sees_its_parts(drawn: DataFolder, expected: dict, task: str) -> None:
    wanted = expected[task]
    faces = inputs.read_records(drawn.path, task)
    for split, part in faces.parts.items():
        assert sorted(part.image_ids) == sorted(name for name, tag in wanted.items() if tag == split)
        # The images are those of the table's rows, in order.
        images = {face.image_id: face.image for face in drawn.faces()}
        rows = [images[name] for name in part.image_ids]
        assert [image for image, _ in part.encoded().as_numpy_iterator()] == rows
        shuffled = part.targets(4, tf.constant(3, tf.int64)).as_numpy_iterator()
        assert Counter(image for image, *_ in shuffled) == Counter(rows)
    found = training_faces(drawn.face_files, task, drawn.tags(task))
    assert {face.image_id for face in found} == {name for name, tag in wanted.items() if tag == "train"}
    counted = Counter()
    for raw in tf.data.TFRecordDataset(list(drawn.pair_files)).as_numpy_iterator():
        pair = schema.decode(raw, schema.PairRecord)
        source, target = wanted[pair.source_id], wanted[pair.target_id]
        counted[source if source == target else ""] += 1
    assert pairs.survey(drawn.path, task).splits == counted
    batches = pairs.PairStream(drawn.path, task, batch_size=8, image_size=16).in_order().as_numpy_iterator()
    seen = [name.decode() for batch in batches for key in ("source_id", "target_id") for name in batch[key]]
    assert len(seen) == 2 * counted["train"] and {wanted[name] for name in seen} == {"train"}


def test_a_draw_says_what_it_is_and_is_made_once(toy_data: str, drawn: DataFolder) -> None:
    own = DataFolder(toy_data).dataset
    assert drawn.dataset["tasks"]["er_up"]["rare_pose"] == own["poses"][1]
    assert len(drawn.dataset["tasks"]["er_ue"]["rare_expressions"]) == 1
    assert drawn.dataset["fingerprint"] != own["fingerprint"] and drawn.face_files == DataFolder(toy_data).face_files
    made = Path(drawn.path, "tags.npz").stat().st_mtime_ns
    assert draws.draw(DataFolder(toy_data), drawn.path, 1) == drawn
    assert Path(drawn.path, "tags.npz").stat().st_mtime_ns == made
    with pytest.raises(InputError, match="holds a draw of other data, or another draw"):
        draws.draw(DataFolder(toy_data), drawn.path, 2)
    with pytest.raises(InputError, match=r"is a draw of '.*'; give that folder"):
        draws.draw(drawn, drawn.path, 1)


def test_each_pose_is_rare_in_turn(toy_data: str) -> None:
    data = DataFolder(toy_data)
    assert [draws.options_of(data, seed).rare_pose for seed in range(4)] == data.dataset["poses"]


def test_a_draw_of_data_that_was_built_anew_is_refused(toy_data: str, tmp_path: Path) -> None:
    data = shutil.copytree(toy_data, tmp_path / "data")
    drawn = draws.draw(DataFolder(str(data)), str(tmp_path / "draw"), 3)
    update(data, fingerprint="another")
    with pytest.raises(InputError, match="was built anew since the draw"):
        inputs.read_records(drawn.path, "er_ss")


def test_a_draw_goes_on_where_its_data_was_moved_to(toy_data: str, tmp_path: Path) -> None:
    first = shutil.copytree(toy_data, tmp_path / "first")
    before = draws.draw(DataFolder(str(first)), str(tmp_path / "draw"), 3)
    made, parts = Path(before.path, "tags.npz").stat().st_mtime_ns, inputs.read_records(before.path, "er_ss")
    moved = shutil.move(first, tmp_path / "moved")
    with pytest.raises(InputError, match="first' has no dataset"):
        inputs.read_records(before.path, "er_ss")
    after = draws.draw(DataFolder(str(moved)), before.path, 3)
    assert after.drawn_from == str(moved) and Path(after.path, "tags.npz").stat().st_mtime_ns == made
    faces = inputs.read_records(after.path, "er_ss")
    assert faces.fingerprint == parts.fingerprint and len(faces.parts["train"]) == len(parts.parts["train"])
    update(moved, fingerprint="another")
    with pytest.raises(InputError, match="holds a draw of other data, or another draw"):
        draws.draw(DataFolder(str(moved)), before.path, 3)


def test_a_network_of_another_draw_is_refused(toy_data: str, drawn: DataFolder, tmp_path: Path) -> None:
    faces = inputs.read_records(toy_data, "er_ss")
    spec = fa_net.FaNetSpec(faces.expressions, task="er_ss", data_fingerprint=faces.fingerprint)
    fa_net.save_spec(str(tmp_path), spec)
    lineage.write(str(tmp_path), lineage.of_training(faces, "er_ss", {}))
    with pytest.raises(InputError, match="trained on faces that 'er_ss' tests here"):
        lineage.check("init_from", str(tmp_path), inputs.read_records(drawn.path, "er_ss"), "er_ss")
