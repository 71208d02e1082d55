"""The plan of what to synthesize."""

from __future__ import annotations

import dataclasses
import itertools
import random
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import schema
from fer_tf.data.schema import FaceRecord
from fer_tf.data.tasks import stable_hash
from fer_tf.errors import InputError
from fer_tf.faces.align import draw_mask
from fer_tf.labels import F2ED_POSES, TASKS, mirror_pairs_of
from fer_tf.synthesis import make
from fer_tf.synthesis.make import as_synthetic
from fer_tf.synthesis.plan import FaceFacts, Item, Target, _Ranked, level, plan, read_at, training_faces

EXPRESSIONS = ("angry", "happy", "sad")


def corpus(frames: dict[tuple[str, str], int] | None = None, persons: int = 4) -> list[FaceFacts]:
    """Faces of each (expression, pose) cell; `frames` says how many a person has, 3 where it is silent."""
    return [
        FaceFacts(f"{person}/{expression}/{pose}#{frame:06d}", expression, pose, f"P{person}")
        for person, expression, pose in itertools.product(range(persons), EXPRESSIONS, F2ED_POSES)
        for frame in range((frames or {}).get((expression, pose), 3))
    ]


def test_the_emptiest_cells_are_raised_to_one_level_first() -> None:
    counts = {("a", "x"): 1, ("b", "x"): 4, ("c", "x"): 10}
    assert level(counts, 5) == {("a", "x"): 4, ("b", "x"): 1, ("c", "x"): 0}
    assert level(counts, 15) == {("a", "x"): 9, ("b", "x"): 6, ("c", "x"): 0}
    assert level(counts, 18) == {("a", "x"): 10, ("b", "x"): 7, ("c", "x"): 1}


@pytest.mark.parametrize("budget", [0, 1, 2, 7, 100, 101])
def test_the_whole_budget_is_given_out(budget: int) -> None:
    counts = {("a", "x"): 3, ("b", "x"): 3, ("c", "x"): 8}
    added = level(counts, budget)
    assert sum(added.values()) == budget
    assert min(added.values()) >= 0


def test_er_up_fills_the_rare_pose() -> None:
    rare = dict.fromkeys(itertools.product(EXPRESSIONS, ["half_left"]), 1)
    faces = corpus(rare)
    items = plan(faces, ratio=24 / len(faces))
    # Two of three frames of half_left are missing, for 4 persons and 3 expressions: 24 faces.
    assert {item.pose for item in items} == {"half_left"}
    assert Counter(item.expression for item in items) == dict.fromkeys(EXPRESSIONS, 8)


def test_er_ue_fills_the_rare_class() -> None:
    rare = dict.fromkeys(itertools.product(["sad"], F2ED_POSES), 1)
    faces = corpus(rare)
    items = plan(faces, ratio=0.3)
    assert {item.expression for item in items} == {"sad"}
    assert set(Counter(item.pose for item in items).values()) <= {8, 9}


@pytest.mark.parametrize("ratio", [0, 1, 2, 5])
def test_the_ratio_is_met_while_there_are_pairs(ratio: int) -> None:
    faces = corpus()
    assert len(plan(faces, ratio)) == ratio * len(faces)


def test_no_pair_is_made_twice_however_high_the_ratio() -> None:
    faces = corpus(persons=2)
    items = plan(faces, ratio=1000)
    assert len({item.image_id for item in items}) == len(items)
    # Each face can be the source of every face of its expression in the three other poses: 2 persons x 3 frames.
    assert len(items) == len(faces) * 3 * 6


def test_source_and_target_share_the_expression_and_differ_in_pose() -> None:
    faces = {face.image_id: face for face in corpus()}
    for item in plan(list(faces.values()), 2):
        source, target = faces[item.source_id], faces[item.target_id]
        assert source.expression == target.expression == item.expression
        assert source.pose != target.pose == item.pose


def test_a_source_takes_its_own_persons_mask_when_there_is_one() -> None:
    faces = {face.image_id: face for face in corpus()}
    items = plan(list(faces.values()), 1)
    assert all(faces[item.source_id].person == faces[item.target_id].person for item in items)


def test_a_face_filmed_together_with_the_source_is_its_last_target() -> None:
    faces = {
        face.image_id: dataclasses.replace(face, moment=f"{face.person}/{face.expression}/{face.image_id[-1]}")
        for face in corpus(persons=2)
        if face.pose in ("front", "half_left")
    }

    def together(items: list[Item]) -> list[bool]:
        pairs = [(faces[item.source_id], faces[item.target_id]) for item in items]
        return [a.moment == b.moment for a, b in pairs]

    # A face has three targets of its own person, one of them of its own moment, and three of the other's.
    assert not any(together(plan(list(faces.values()), 5)))
    everything = together(plan(list(faces.values()), 6))
    assert len(everything) == 6 * len(faces)
    assert sum(everything) == len(faces)


def test_a_rare_pose_also_follows_the_masks_of_the_mirrored_one() -> None:
    rare = dict.fromkeys(itertools.product(EXPRESSIONS, ["half_left"]), 1)
    faces = {face.image_id: face for face in corpus(rare)}
    items = plan(list(faces.values()), 1, mirror=True)
    left = [item for item in items if item.pose == "half_left"]
    # It has 12 masks of its own, and half right has 36.
    alone = plan(list(faces.values()), 1)
    assert len({item.target_id for item in alone if item.pose == "half_left"}) <= 12
    assert len({(item.target_id, item.mirrored) for item in left}) > 2 * 12
    assert {faces[item.target_id].pose for item in left if item.mirrored} == {"half_right"}
    assert {faces[item.target_id].pose for item in items if item.pose == "front"} == {"front"}
    # A face is not asked to become its own mirror image, and no face is made twice.
    assert all(item.source_id != item.target_id for item in items)
    assert len({item.image_id for item in items}) == len(items) == len(faces)


def test_poses_whose_names_do_not_tell_mirror_each_other_when_they_are_declared() -> None:
    names = {"half_left": "cam1", "half_right": "cam5"}
    rare = dict.fromkeys(itertools.product(EXPRESSIONS, ["half_left"]), 1)
    faces = {face.image_id: dataclasses.replace(face, pose=names.get(face.pose, face.pose)) for face in corpus(rare)}

    def mirrored_targets(**pairs: Any) -> set[str]:
        items = plan(list(faces.values()), 1, mirror=True, **pairs)
        return {faces[item.target_id].pose for item in items if item.pose == "cam1" and item.mirrored}

    # Undeclared, a camera is its own mirror image: its faces may be followed turned around.
    assert mirrored_targets() == {"cam1"}
    assert mirrored_targets(pairs=(("cam5", "cam1"),)) == {"cam5"}


def test_pairs_are_read_from_a_flag_and_checked_against_the_poses_of_the_data() -> None:
    poses = ("cam1", "cam2", "cam4", "cam5")
    assert mirror_pairs_of("Cam1=cam5, cam2=cam4", poses) == (("cam1", "cam5"), ("cam2", "cam4"))
    assert mirror_pairs_of("") == ()
    for wrong in ("cam1", "cam1=cam1", "cam1=cam5,cam5=cam4", "cam1=cam9"):
        with pytest.raises(InputError, match="mirror_pairs"):
            mirror_pairs_of(wrong, poses)


def test_a_mirrored_record_has_the_mirrored_points_mask_and_pose(toy_data: str) -> None:
    files = sorted(str(path) for path in Path(toy_data, "records").glob("*.tfrecord"))
    record = read_at(next(face for face in training_faces(files, "er_ss") if face.pose == "half_right"))
    seen = make.mirrored(record, "half_left", pose_id=7)
    assert (seen.pose, seen.pose_id, seen.image) == ("half_left", 7, b"")
    # Drawn anew from the points: a mask that was turned the other way, or points in the wrong order, would differ.
    drawn = draw_mask(seen.landmarks).astype(int)
    mask = tf.io.decode_png(seen.mask).numpy()[..., 0].astype(int)
    assert np.abs(drawn - mask).mean() < 0.3 * drawn.mean()
    assert np.abs(draw_mask(record.landmarks).astype(int) - mask).mean() > drawn.mean()
    back = make.mirrored(seen, record.pose, record.pose_id)
    np.testing.assert_allclose(back.landmarks, record.landmarks, atol=1e-4)
    assert tf.io.decode_png(back.mask).numpy().tolist() == tf.io.decode_png(record.mask).numpy().tolist()


def test_the_spare_faces_of_a_cell_are_its_next_ones_and_come_last() -> None:
    faces = corpus()
    alone, with_spares = plan(faces, 1), plan(faces, 1, spares=1.0)
    assert with_spares[: len(alone)] == alone
    spares = with_spares[len(alone) :]
    assert all(item.spare for item in spares)
    assert Counter(item.cell for item in spares) == Counter(item.cell for item in alone)
    # A spare face is one that a larger plan would have made.
    larger = {item.image_id for item in plan(faces, 2)}
    assert {item.image_id for item in spares} == larger - {item.image_id for item in alone}


def test_the_plan_takes_steps_and_memory_that_grow_with_the_persons_alone() -> None:
    def cost(persons: int) -> tuple[int, int]:
        faces = [
            FaceFacts(f"{person}/{pose}", "happy", pose, f"P{person}", moment=f"M{person}")
            for person, pose in itertools.product(range(persons), F2ED_POSES)
        ]
        steps = 0

        def count(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal steps
            # Lines would leave out loops of one line; a clock would count what else the machine does.
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            steps += event == "opcode"
            return count

        tracemalloc.start()
        assert len(plan(faces, 1)) == len(faces)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        sys.settrace(count)
        plan(faces, 1)
        sys.settrace(None)
        return steps, peak

    few, many = cost(50), cost(400)
    # Eight times the persons: eight times both; the square would be 64 times.
    assert 4 * few[0] < many[0] < 16 * few[0]
    assert many[1] < 16 * few[1]


def test_the_plan_is_the_one_of_the_groups_written_out() -> None:
    faces = [
        dataclasses.replace(face, moment=f"{face.person}/{face.image_id[-1]}" if face.person != "P3" else "")
        for face in corpus({("happy", "half_left"): 1}, persons=5)
    ]
    cell = ("happy", "half_left")
    of_cell = [Target(face) for face in faces if (face.expression, face.pose) == cell]
    seen = [Target(face, True) for face in faces if (face.expression, face.pose) == ("happy", "half_right")]
    targets = sorted(of_cell + seen, key=lambda target: stable_hash(target.face.image_id))
    ranked = _Ranked(targets)
    for source in (face for face in faces if face.expression == "happy" and face.pose == "front"):
        own = [target for target in targets if target.face.person == source.person]
        copies = [t for t in own if source.moment and t.face.moment == source.moment and not t.mirrored]
        fresh, others = [t for t in own if t not in copies], [t for t in targets if t not in own]
        turn = 0
        for group in (fresh, others, copies):
            for _ in group:
                place = 7
                wanted = group[(place + turn - sum(map(len, _before(group, fresh, others, copies)))) % len(group)]
                assert ranked.target(source, turn, place) == wanted
                turn += 1


def _before(group: list, *groups: list) -> list[list]:
    return list(itertools.takewhile(lambda other: other is not group, groups))


def test_the_plan_does_not_depend_on_the_order_of_the_faces() -> None:
    faces = corpus()
    shuffled = random.Random(3).sample(faces, len(faces))
    assert plan(faces, 1, seed=5) == plan(shuffled, 1, seed=5)
    assert plan(faces, 1, seed=5) != plan(faces, 1, seed=6)


def test_a_pose_with_one_image_serves_every_source_of_its_expression() -> None:
    faces = [face for face in corpus() if face.pose != "bird_view"]
    faces.append(FaceFacts("only#000000", "happy", "bird_view", "P0"))
    items = [item for item in plan(faces, 1) if item.pose == "bird_view"]
    assert items
    assert {(item.target_id, item.expression) for item in items} == {("only#000000", "happy")}


def test_one_pose_alone_gives_an_empty_plan() -> None:
    assert plan([face for face in corpus() if face.pose == "front"], 1) == []


def test_a_negative_ratio_is_named() -> None:
    with pytest.raises(InputError, match="synthetic_ratio"):
        plan(corpus(), -1)


def test_only_real_training_faces_of_the_task_are_planned(toy_data: str) -> None:
    files = sorted(str(path) for path in Path(toy_data, "records").glob("*.tfrecord"))
    found = training_faces(files, "er_zid")
    wanted = {
        record.image_id
        for raw in tf.data.TFRecordDataset(files).as_numpy_iterator()
        if (record := schema.decode(raw)).er_zid == "train"
    }
    assert {face.image_id for face in found} == wanted
    # Each record is found again without reading the rest of its file.
    for face in found[::17]:
        assert read_at(face).image_id == face.image_id


def test_a_synthetic_face_of_another_run_is_no_source(toy_data: str, tmp_path: Path) -> None:
    first = next(iter(tf.data.TFRecordDataset(sorted(map(str, Path(toy_data, "records").glob("*"))))))
    path = str(tmp_path / "faces.tfrecord")
    record = schema.decode(first.numpy())
    item = Item("a", "b", record.expression, "half_left")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(schema.encode(as_synthetic(item, record, record, "er_ss")))
        writer.write(schema.encode(record))
    assert [face.image_id for face in training_faces([path], "er_ss")] == [record.image_id]


def test_a_file_that_was_cut_short_is_named(toy_data: str, tmp_path: Path) -> None:
    whole = sorted(Path(toy_data, "records").glob("*.tfrecord"))[0].read_bytes()
    cut = tmp_path / "faces.tfrecord"
    cut.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"faces\.tfrecord is damaged or cut off in the record at byte"):
        training_faces([str(cut)], "er_ss")


def test_a_synthetic_record_names_both_images_and_trains_in_one_task_alone(toy_data: str) -> None:
    path = str(sorted(Path(toy_data, "records").glob("*.tfrecord"))[0])
    source, target = (read_at(face) for face in training_faces([path], "er_ss")[:2])
    item = Item(source.image_id, target.image_id, source.expression, target.pose)
    record: FaceRecord = as_synthetic(item, source, target, "er_up", image=b"made")
    assert (record.synthetic, record.synthetic_source, record.synthetic_target) == (1, source.image_id, target.image_id)
    assert {task: getattr(record, task) for task in TASKS} == {"er_ss": "", "er_ue": "", "er_up": "train", "er_zid": ""}
    assert (record.person, record.expression) == (source.person, source.expression)
    assert (record.pose, record.mask, record.image) == (target.pose, target.mask, b"made")
