"""FER+ is read from both published layouts: its votes become shares, and what shows no expression is left out."""

from __future__ import annotations

import csv
import os

import cv2
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import public
from fer_tf.data.parts import Sampling
from fer_tf.data.public.ferplus import EXPRESSIONS, NO_FACE, UNKNOWN, VOTES, shares_of
from fer_tf.data.public_set import MISSING
from fer_tf.errors import InputError
from tests.fer_tf.data.test_public import csv_row, png, write


def votes_of(**votes: int) -> list[int]:
    return [votes.get(name, 0) for name in VOTES]


@pytest.mark.parametrize(
    ("votes", "shares"),
    [
        (votes_of(happiness=10), {"happy": 1.0}),
        # Single votes are mistakes: 4 and 6 of the 8 votes that are left, and 2 would not be needed for three quarters.
        (votes_of(neutral=6, sadness=2, fear=1, contempt=1), {"neutral": 6 / 8}),
        (votes_of(neutral=4, sadness=3, fear=2, contempt=1), {"neutral": 4 / 9, "sad": 3 / 9}),
        # A tie is taken whole.
        (votes_of(anger=4, contempt=4, disgust=2), {"angry": 4 / 10, "contempt": 4 / 10}),
        # What comes before unknown counts, if it has more than half.
        (votes_of(surprise=6, unknown=4), {"surprise": 6 / 10}),
        (votes_of(surprise=4, unknown=6), UNKNOWN),
        (votes_of(surprise=3, sadness=2, unknown=4, NF=1), UNKNOWN),
        (votes_of(fear=2, NF=8), NO_FACE),
        (votes_of(**{name: 1 for name in VOTES}), UNKNOWN),
        # Five expressions of equal votes say nothing.
        (votes_of(neutral=2, happiness=2, surprise=2, sadness=2, anger=2), UNKNOWN),
    ],
)
def test_votes_become_shares_as_in_the_sets_own_program(votes, shares):
    found = shares_of(votes)
    if isinstance(shares, dict):
        shares = tuple(pytest.approx(shares.get(name, 0.0)) for name in EXPRESSIONS)
    assert found == shares


FACES = {
    "FER2013Train": [votes_of(happiness=10), votes_of(neutral=4, sadness=4, fear=2), votes_of(NF=10)] * 20,
    "FER2013Valid": [votes_of(contempt=7, neutral=3), votes_of(anger=4, disgust=3, sadness=3), votes_of(unknown=10)],
}


def write_folders(root):
    """Writes the set as folders with a label.csv each and returns where."""
    number = 0
    for name, faces in FACES.items():
        os.makedirs(root / name)
        with open(root / name / "label.csv", "w", newline="") as file:
            for votes in faces:
                number += 1
                write(f"{root}/{name}/fer{number:07d}.png", png(number))
                csv.writer(file).writerow([f"fer{number:07d}.png", "(0, 0, 48, 48)", *votes])
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("ferplus"))


def test_the_folders_are_read_and_what_is_left_out_is_counted(folders):
    faces = public.read("ferplus", str(folders), 0.0)
    assert faces.expressions == EXPRESSIONS and len(EXPRESSIONS) == 8
    train, test = faces.parts["train"], faces.parts["test"]
    assert len(train) == 40 and len(test) == 2
    assert f"left out, because {NO_FACE}: 20 images" in faces.notes
    assert f"left out, because {UNKNOWN}: fer0000063.png" in faces.notes
    assert sorted(train.has_majority.tolist()) == [False] * 20 + [True] * 20
    row = test.votes[test.image_ids.tolist().index("fer0000061.png")]
    np.testing.assert_allclose(row, np.eye(8)[7] * 0.7 + np.eye(8)[6] * 0.3, atol=1e-6)


def test_the_two_csv_files_give_the_same_faces_and_votes(folders, tmp_path):
    rows, voted, number = ["emotion,pixels,Usage"], [f"Usage,Image name,{','.join(VOTES)}"], 0
    for name, usage in (("FER2013Train", "Training"), ("FER2013Valid", "PublicTest")):
        for votes in FACES[name]:
            number += 1
            rows.append(csv_row(0, number, usage))
            voted.append(f"{usage},fer{number:07d}.png,{','.join(map(str, votes))}")
    write(f"{tmp_path}/fer2013.csv", "\n".join(rows))
    write(f"{tmp_path}/fer2013new.csv", "\n".join(voted))
    one, other = public.read("ferplus", str(tmp_path), 0.0), public.read("ferplus", str(folders), 0.0)
    for split, part in one.parts.items():
        votes = dict(zip(part.image_ids, part.votes.tolist(), strict=True))
        assert votes == dict(zip(other.parts[split].image_ids, other.parts[split].votes.tolist(), strict=True))
    write(f"{tmp_path}/fer2013new.csv", "\n".join([*voted[:-1], voted[-1][:30]]))
    with pytest.raises(
        InputError, match=r"fer2013new\.csv, line \d+: \d+ values under 12 columns\. Is the file cut off"
    ):
        public.read("ferplus", str(tmp_path), 0.0)
    write(f"{tmp_path}/fer2013new.csv", "\n".join(voted[:-1]))
    with pytest.raises(InputError, match="must have the same number of rows"):
        public.read("ferplus", str(tmp_path), 0.0)
    write(f"{tmp_path}/fer2013new.csv", "\n".join([voted[0], *reversed(voted[1:])]))
    with pytest.raises(InputError, match=r"has the usage 'Training', .*has 'PublicTest'; .*row for row"):
        public.read("ferplus", str(tmp_path), 0.0)


@pytest.mark.parametrize("labels", [True, False])
def test_pictures_that_are_named_and_missing_are_listed_and_refused_where_they_are_many(tmp_path, labels):
    write_folders(tmp_path)
    gone = sorted((tmp_path / "FER2013Valid").glob("*.png"))[0]
    if not labels:
        votes = ["Usage,Image name," + ",".join(VOTES)]
        for name, usage in (("FER2013Train", "Training"), ("FER2013Valid", "PublicTest")):
            with open(tmp_path / name / "label.csv", newline="") as file:
                votes += [",".join((usage, row[0], *row[2:])) for row in csv.reader(file)]
            os.remove(tmp_path / name / "label.csv")
        # FER+ has no name for what it took out, and names PrivateTest's pictures, of which no folder is here.
        votes += [f"Training,,{','.join('0' * 10)}", f"PrivateTest,fer9.png,{','.join('1' * 10)}"]
        write(f"{tmp_path}/fer2013new.csv", "\n".join(votes))
    public.read("ferplus", str(tmp_path), 0.0)
    os.remove(gone)
    faces = public.read("ferplus", str(tmp_path), 0.0)
    assert f"left out, because {MISSING}: {gone.name}" in faces.notes
    for path in sorted((tmp_path / "FER2013Train").glob("*.png"))[:25]:
        os.remove(path)
    with pytest.raises(InputError, match=r"cannot be used, more than 5 %: 26 because there are no such files: fer"):
        public.read("ferplus", str(tmp_path), 0.0)


def test_votes_and_folders_that_do_not_fit_are_named(folders, tmp_path):
    write(f"{tmp_path}/FER2013Train/fer0000001.png", png(1))
    write(f"{tmp_path}/FER2013Train/label.csv", "fer0000002.png,x,1\n")
    with pytest.raises(InputError, match=r"label\.csv has no votes for \['fer0000001\.png'\]"):
        public.read("ferplus", str(tmp_path), 0.0)
    write(f"{tmp_path}/FER2013Train/label.csv", "fer0000001.png,x,1\n\nfer0000002.png\n")
    with pytest.raises(InputError, match=r"label\.csv, line 3: a row must be a name, a box and 10 votes"):
        public.read("ferplus", str(tmp_path), 0.0)
    write(f"{tmp_path}/FER2013Train/label.csv", "fer0000001.png,x,1,2\n")
    with pytest.raises(InputError, match=r"votes must be 10 whole numbers. Received: \['1', '2'\]"):
        public.read("ferplus", str(tmp_path), 0.0)
    with pytest.raises(InputError, match=r"must hold fer2013new\.csv beside fer2013\.csv, or the folders FER2013Train"):
        public.read("ferplus", str(folders / "FER2013Train"), 0.0)


def targets(part, labels, seed=0):
    found = part.targets(8, tf.constant(seed, tf.int64), Sampling(labels)).as_numpy_iterator()
    return {cv2.imdecode(np.frombuffer(image, np.uint8), 0).tobytes(): target for image, target, _ in found}


def test_targets_are_shares_or_one_drawn_class_or_the_majority(folders):
    train = public.read("ferplus", str(folders), 0.0).parts["train"]
    shares = targets(train, "distribution")
    two = np.eye(8)[EXPRESSIONS.index("neutral")] / 2 + np.eye(8)[EXPRESSIONS.index("sad")] / 2
    found = sorted(map(tuple, shares.values()))
    assert found.count(tuple(two)) == 20 and found.count(tuple(np.eye(8)[3])) == 20
    majority = targets(train, "majority")
    assert len(majority) == 20 and {tuple(target) for target in majority.values()} == {tuple(np.eye(8)[3])}
    assert train.counts(8, Sampling("majority")).sum() == 20
    drawn = [targets(train, "draw", seed) for seed in range(6)]
    means = {image: np.mean([draw[image] for draw in drawn], axis=0) for image in shares}
    assert all(set(draw[image]) == {0.0, 1.0} for draw in drawn for image in shares)
    unclear = [means[image] for image, target in shares.items() if target.max() < 1]
    np.testing.assert_allclose(np.mean(unclear, axis=0), two, atol=0.15)
    assert all((mean > 0).sum() == 1 for image, mean in means.items() if shares[image].max() == 1)


def test_a_set_names_the_set_whose_pictures_it_shows() -> None:
    shown = {task: public.pictures_of(task) for task in (*public.NAMES, "er_ss", "mixed", "")}
    assert shown == {**{task: task for task in shown}, "ferplus": "fer2013"}
    assert {task for task in shown if public.holds_out(task)} == {"fer2013", "ferplus"}
