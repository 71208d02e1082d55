"""The splits: the paper's counts, exact quotas, independence from order, and what each task promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fer_tf.data import tasks
from fer_tf.data.tasks import TEST, TRAIN, VAL, FaceKeys, TaskOptions
from fer_tf.errors import InputError
from fer_tf.labels import F2ED_POSES, TASKS

PAPER_POSES = {"front": 74_985, "half_left": 47_053, "half_right": 49_152, "bird_view": 48_529}  # section 3.2
EXPRESSIONS = [f"class_{number:02d}" for number in range(54)]


def corpus(poses: dict[str, int] = PAPER_POSES, persons: int = 119, classes: int = 54, clip: int = 40) -> FaceKeys:
    """Faces with made-up ids: `clip` frames a clip, clips of one moment in several poses."""
    pose = np.repeat(np.arange(len(poses)), list(poses.values()))
    place = np.concatenate([np.arange(count) for count in poses.values()])
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, (3, place.max() // clip + 1), dtype=np.uint64)
    moment = place // clip
    return FaceKeys(
        image=rng.permutation(np.arange(len(pose), dtype=np.uint64)),
        clip=keys[0][moment] + pose.astype(np.uint64),
        moment=keys[1][moment],
        person=(moment % persons).astype(np.uint64),
        expression=moment % classes,
        pose=pose,
    )


def parts_of(faces: FaceKeys, **options: object) -> tuple[dict[str, np.ndarray], tasks.SplitPlan]:
    limits = tasks.plan(faces, EXPRESSIONS[: faces.expression.max() + 1], F2ED_POSES, TaskOptions(**options))
    return tasks.split(faces, limits), limits


def test_rare_expressions_are_chosen_among_those_that_have_faces() -> None:
    faces = corpus(classes=6)
    six = tasks.plan(faces, EXPRESSIONS[:6], F2ED_POSES, TaskOptions()).rare_expressions
    for seed in range(5):
        # A labels file names 54.
        limits = tasks.plan(faces, EXPRESSIONS, F2ED_POSES, TaskOptions(seed=seed))
        assert len(limits.rare_expressions) == 1 and limits.rare_expressions[0] < 6
        assert counts(tasks.split(faces, limits)["er_ue"])[2] > 0
    assert tasks.plan(faces, EXPRESSIONS, F2ED_POSES, TaskOptions()).rare_expressions == six
    everyone = tasks.plan(corpus(), EXPRESSIONS, F2ED_POSES, TaskOptions()).rare_expressions
    by_hash = sorted(range(54), key=lambda i: tasks.stable_hash(f"er_ue/0/class/{EXPRESSIONS[i]}"))
    assert everyone == tuple(sorted(by_hash[:11])), "as ever, where all have faces"


def counts(parts: np.ndarray) -> tuple[int, int, int]:
    return tuple(int((parts == code).sum()) for code in (TRAIN, VAL, TEST))


@pytest.fixture(scope="module")
def paper() -> FaceKeys:
    faces = corpus()
    assert len(faces) == 219_719
    return faces


def test_er_ss_gives_the_papers_three_counts(paper: FaceKeys) -> None:
    assert counts(parts_of(paper)[0]["er_ss"]) == (175_000, 19_719, 25_000)


def test_er_up_gives_the_papers_two_counts_and_takes_validation_from_training(paper: FaceKeys) -> None:
    train, val, test = counts(parts_of(paper, val_share=0)[0]["er_up"])
    assert (train, val, test) == (177_372, 0, 42_347)
    parts, _ = parts_of(paper)
    train, val, test = counts(parts["er_up"])
    assert train + val == 177_372 and test == 42_347
    assert 0.08 < val / (train + val) < 0.12
    rare = paper.pose == F2ED_POSES.index("half_left")
    assert set(np.unique(paper.pose[parts["er_up"] == TEST])) == {1}
    # The tenth of the rare pose that trains stays in training: 47,053 - 42,347.
    assert ((parts["er_up"] == TRAIN) & rare).sum() == 4_706


def test_er_ue_tests_eleven_of_54_classes_and_trains_on_a_tenth_of_each(paper: FaceKeys) -> None:
    parts, limits = parts_of(paper)
    rare = np.unique(paper.expression[parts["er_ue"] == TEST])
    assert len(rare) == 11 and tuple(rare) == limits.rare_expressions
    for expression in rare:
        train, val, test = counts(parts["er_ue"][paper.expression == expression])
        assert (val, test) == (0, (train + test) * 9 // 10)
    assert len(np.unique(paper.expression[parts["er_ue"] == TRAIN])) == 54


def test_er_zid_takes_98_and_21_persons_with_none_in_both(paper: FaceKeys) -> None:
    parts, _ = parts_of(paper)
    train, val, test = (set(paper.person[parts["er_zid"] == code].tolist()) for code in (TRAIN, VAL, TEST))
    assert len(train | val) == 98 and len(test) == 21 and len(val) == 10
    assert not (train & val or train & test or val & test)


@pytest.mark.parametrize("unit", ["clip", "person"])
def test_er_ss_by_clip_or_person_never_parts_one(paper: FaceKeys, unit: str) -> None:
    parts, _ = parts_of(paper, er_ss_unit=unit)
    keys = getattr(paper, unit)
    owners = [set(keys[parts["er_ss"] == code].tolist()) for code in (TRAIN, VAL, TEST)]
    assert tuple(len(owner) for owner in owners) == tasks.er_ss_quotas(len(np.unique(keys)))
    assert sum(len(owner) for owner in owners) == len(np.unique(keys))


def test_a_face_keeps_its_part_whatever_the_order_and_whoever_asks(paper: FaceKeys) -> None:
    parts, limits = parts_of(paper)
    order = np.random.default_rng(3).permutation(len(paper))[:5000]
    some = FaceKeys(*(getattr(paper, field.name)[order] for field in dataclasses.fields(FaceKeys)))
    for task, wanted in tasks.split(some, limits).items():
        np.testing.assert_array_equal(wanted, parts[task][order])
    shuffle = np.random.default_rng(4).permutation(len(paper))
    shuffled = FaceKeys(*(getattr(paper, field.name)[shuffle] for field in dataclasses.fields(FaceKeys)))
    assert parts_of(shuffled)[1] == limits


def test_another_seed_gives_other_parts_and_tasks_are_split_independently(paper: FaceKeys) -> None:
    first, second = parts_of(paper)[0], parts_of(paper, seed=1)[0]
    for task in TASKS:
        assert (first[task] != second[task]).any()
    rare = paper.pose == 1
    # The ER-SS test share inside ER-UP's test part is that of the corpus.
    share = (first["er_ss"][rare & (first["er_up"] == TEST)] == TEST).mean()
    assert abs(share - 25_000 / 219_719) < 0.01


@pytest.mark.parametrize("persons", range(1, 12))
def test_small_corpora_get_full_parts_without_an_empty_one(persons: int) -> None:
    faces = corpus(dict.fromkeys(F2ED_POSES, 12 * persons), persons=persons, classes=3, clip=4)
    parts, _ = parts_of(faces, er_ss_unit="person")
    for task, part in parts.items():
        assert sum(counts(part)) == len(faces), task
    if persons >= 3:
        assert all(counts(parts["er_ss"])), "no part of three or more persons is empty"
    if persons >= 4:
        assert all(counts(parts["er_zid"]))


@pytest.mark.parametrize("count", range(0, 60))
def test_quotas_add_up_and_are_never_negative(count: int) -> None:
    assert sum(tasks.er_ss_quotas(count)) == count and min(tasks.er_ss_quotas(count)) >= 0
    assert sum(tasks.zero_shot_quotas(count)) == count and min(tasks.zero_shot_quotas(count)) >= 0
    assert count == 0 or tasks.rare_test_quota(count) < count


def test_a_corpus_without_the_rare_pose_has_no_er_up_test_part() -> None:
    faces = corpus({"front": 100}, persons=4, classes=3, clip=4)
    limits = tasks.plan(faces, EXPRESSIONS[:3], ("front",), TaskOptions())
    assert counts(tasks.split(faces, limits)["er_up"])[2] == 0


@pytest.mark.parametrize(("field", "value"), [("er_ss_unit", "frame"), ("rare_pose", " "), ("val_share", 0.7)])
def test_wrong_options_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        TaskOptions(**{field: value})


def test_part_sizes_pass_over_faces_that_a_task_leaves_out() -> None:
    assert tasks.part_sizes(np.array([0, 0, 1, 2, -1])) == {"train": 2, "val": 1, "test": 1}


def test_a_description_has_each_tasks_sizes_and_what_is_rare_in_it() -> None:
    faces = corpus({"front": 40, "half_left": 20}, persons=5, classes=5, clip=4)
    splits, limits = parts_of(faces, er_ss_unit="clip", seed=3)
    described = tasks.describe(splits, limits, EXPRESSIONS)
    assert list(described) == list(TASKS)
    for task, parts in splits.items():
        sizes = [described[task][part] for part in ("train", "val", "test")]
        assert sizes == [int((parts == code).sum()) for code in (TRAIN, VAL, TEST)]
    assert described["er_ss"]["unit"] == "clip" and described["er_up"]["rare_pose"] == "half_left"
    (rare,) = described["er_ue"]["rare_expressions"]
    assert all((faces.expression == EXPRESSIONS.index(rare))[splits["er_ue"] == TEST])
