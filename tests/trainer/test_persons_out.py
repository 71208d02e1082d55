"""A Fa-Net that answers every face without its person: what it trained on, what it says, and how it goes on."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.config import of
from fer_tf.data import inputs, public
from fer_tf.errors import InputError
from fer_tf.models import fa_net as networks
from fer_tf.models import lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.run_folder import RunFolder
from fer_tf.runs import find_runs
from tests.toy_data import part_of as part
from tests.trainer.conftest import PERSONS, read, small_networks
from trainer import evaluate, persons_out
from trainer import fa_net as stage
from trainer.config import TaskConfig
from trainer.task import main

SMALL = ("--epochs=3", "--learning_rate=0.02", "--recipe=paper", "--image_size=16", "--precision=float32")
LEFT = ("UY",)


def train(data: Path, run_dir: Path, *more: str) -> int:
    return main(["--task=jaffe", f"--data={data}", f"--run_dir={run_dir}", *SMALL, *more])


def test_every_face_is_answered_without_its_person_by_the_trainings_that_are_left(
    drawn_jaffe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    network = run / "fa_net"
    with small_networks():
        assert train(drawn_jaffe, run, "--stage=fa_net") == 0
        assert not (network / "persons").exists()
        written = (network / "best.weights.h5").stat().st_mtime_ns
        # As a stop after nine of ten persons leaves it.
        known = {person: np.full((24 if person == "KA" else 21, 7), place) for place, person in enumerate(PERSONS)}
        (network / "persons").mkdir()
        faces = public.read("jaffe", str(drawn_jaffe), 0.05)
        whole = persons_out.with_persons(faces)
        for person in set(PERSONS) - {*LEFT}:
            about = {"image_id": whole.image_ids[whole.persons == person].astype(str), "data": faces.fingerprint}
            np.savez(network / "persons" / f"{person}.npz", logits=known[person].astype(np.float32), **about)
        assert train(drawn_jaffe, run, "--persons_left_out=true") == 0
    assert (network / "best.weights.h5").stat().st_mtime_ns == written

    answers = np.load(network / "predictions_persons.npz")
    assert len(set(answers["image_id"])) == len(answers["label"]) == 213
    for person in PERSONS:
        own = answers["person"] == person
        assert all(name.startswith(f"{person}.") for name in answers["image_id"][own])
        if person not in LEFT:
            np.testing.assert_array_equal(answers["logits"][own], known[person])
            continue
        (seen,) = lineage.read(str(network / "persons" / person / "fa_net"))
        assert seen.faces == 213 - own.sum()
        # Answers in the order of other faces would be right by chance, one in seven.
        assert (answers["logits"][own].argmax(1) == answers["label"][own]).mean() > 0.5
        assert not (network / "persons" / person / "fa_net" / "checkpoints").exists()

    found = read(run, "metrics.json")
    scores = found["persons_left_out"]
    right = answers["logits"].argmax(1) == answers["label"]
    assert (scores["faces"], scores["interval_over"]) == (213, "persons")
    assert scores["accuracy"] == pytest.approx(right.mean()) and found["test"]["faces"] == 70
    assert "each person left out of training in turn" in (run / "evaluation.html").read_text()
    # What was trained without a person is no run of its own, that a report would show.
    assert [known.name for known in find_runs(str(tmp_path))] == ["run"]


def test_answers_over_other_views_are_answers_of_their_own(
    drawn_jaffe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faces, value, asked = public.read("jaffe", str(drawn_jaffe), 0.05), {"none": 1.0, "flip": 2.0}, []

    def own(whole: inputs.FaceSet, task: str, person: str) -> inputs.FaceSet:
        table = persons_out.with_persons(whole)
        return dataclasses.replace(whole, parts={"test": table.rows(table.persons == person)})

    def predict(model: None, part: inputs.Part, spec: None, tta: str = "none") -> np.ndarray:
        asked.append(tta)
        return np.full((len(part), 7), value[tta], np.float32)

    monkeypatch.setattr(persons_out, "without", own)
    monkeypatch.setattr(stage, "train", lambda *_: None)
    monkeypatch.setattr(stage, "predict", predict)
    monkeypatch.setattr(networks, "load", lambda folder: (None, None))
    for tta in ("none", "flip", "none"):
        config = of(TaskConfig, task="jaffe", data=str(drawn_jaffe), run_dir=str(tmp_path / "run"), tta=tta)
        stage.leave_persons_out(config, faces)
        answers = np.load(tmp_path / "run" / "fa_net" / "predictions_persons.npz")
        assert str(answers["tta"]) == tta and (answers["logits"] == value[tta]).all()
        # What metrics.json says of all scores holds for these.
        assert evaluate._without_persons(config.folder, faces, tta)["persons_left_out"]["faces"] == 213
        assert evaluate._without_persons(config.folder, faces, "views") == {}
    assert asked == ["none"] * 10 + ["flip"] * 10
    assert "--stage=fa_net --persons_left_out=true --tta=views" in caplog.text


def test_nobody_is_left_out_by_the_pupil_of_a_network_that_has_seen_them(drawn_jaffe: Path, tmp_path: Path) -> None:
    faces = public.read("jaffe", str(drawn_jaffe), 0.05)
    spec = FaNetSpec(faces.expressions, image_size=16, task="jaffe", data_fingerprint=faces.fingerprint)
    networks.save_spec(str(tmp_path / "known"), spec)
    lineage.write(str(tmp_path / "known"), lineage.of_training(faces, "jaffe", {}))
    for flag in ("teacher", "init_from"):
        # The published split's own test part is unseen; the other persons' parts are not.
        assert lineage.check(flag, str(tmp_path / "known"), faces, "jaffe") == ()
        with pytest.raises(InputError, match=rf"`{flag}` .* was trained on faces that 'jaffe' tests here"):
            train(drawn_jaffe, tmp_path / "run", f"--{flag}={tmp_path}/known", "--persons_left_out=true")
    assert not (tmp_path / "run" / "fa_net").exists()


def test_no_person_can_be_left_out_where_the_parts_share_none(toy_data: str, tmp_path: Path) -> None:
    flags = [f"--data={toy_data}", f"--run_dir={tmp_path}/run", "--task=er_zid", "--stage=fa_net", *SMALL]
    with pytest.raises(InputError, match=r"`persons_left_out` is for a set of at most 2000 faces .* `task` 'er_zid'"):
        main([*flags, "--synthetic=false", "--persons_left_out=true"])
    assert not (tmp_path / "run" / "fa_net").exists()


def test_whatever_a_person_is_called_what_is_made_without_them_stays_in_the_run(tmp_path: Path) -> None:
    network = RunFolder(str(tmp_path / "run")).fa_net
    names = ("KA", "..", "../../KA", "a/b", "a b", "", "é" * 300, "/etc/passwd", "b" * 65)
    folders = [Path(persons_out.folder_of(network, name)) for name in names]
    assert all(folder.resolve().parent == tmp_path / "run" / "fa_net" / "persons" for folder in folders)
    assert folders[0].name == "KA" and len(set(folders)) == len(names) and max(len(f.name) for f in folders) < 70


def test_a_face_of_nobody_knows_whom_is_neither_learned_from_nor_scored(tmp_path: Path) -> None:
    lines, patterns = ["image,expression,person,split"], np.random.default_rng(0).integers(0, 256, (2, 6, 6))
    for number, (person, take, label) in enumerate(itertools.product(("A", "B", "C", ""), "12", (0, 1))):
        pixels = cv2.resize(patterns[label].astype(np.uint8), (48, 48)) // 2 + 8 * number
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
        lines.append(f"{number}.png,{('happy', 'sad')[label]},{person},{'train' if take == '1' else 'test'}")
    (tmp_path / "annotations.csv").write_text("\n".join(lines))
    flags = [f"--data={tmp_path}", "--task=pictures", "--method=hog_knn", f"--run_dir={tmp_path}/run"]
    assert main(flags) == 0
    found = read(tmp_path / "run", "metrics.json")
    assert (found["test"]["faces"], found["persons_left_out"]["faces"]) == (8, 12)
    answers = np.load(tmp_path / "run" / "competitor" / "predictions_persons.npz")
    assert sorted(set(answers["person"])) == ["A", "B", "C"] and len(answers["label"]) == 12

    faces = public.read("pictures", str(tmp_path), 0.05)
    parts = persons_out.without(faces, "pictures", "B").parts
    assert {split: sorted(set(part.persons.tolist())) for split, part in parts.items()} == {
        "train": ["A", "C"],
        "val": [],
        "test": ["B"],
    }
    images = inputs.evaluation_batches(parts["test"], image_size=48, channels=1, crop=1.0)
    assert sum(len(batch) for batch, _ in images) == 4


def test_answers_of_other_faces_or_after_another_training_are_given_anew(tmp_path: Path) -> None:
    run, asked = RunFolder(str(tmp_path / "run")), []

    def answers(person: str, own: inputs.Part) -> np.ndarray:
        asked.append(person)
        return np.eye(2, dtype=np.float32)[own.labels]

    def whole(names: str, fingerprint: str) -> inputs.FaceSet:
        labels = [ord(name) % 2 for name in names]
        few = part(list(names), np.array(labels), [b""] * len(names), persons=["P1", *["P2"] * (len(names) - 1)])
        return inputs.FaceSet(("happy", "sad"), {"test": few}, fingerprint)

    # The same again; a face more, whose name makes the others' order another; as many others; other training faces.
    for names, fingerprint, again in (
        ("abc", "f", ["P1", "P2"]),
        ("abc", "f", []),
        ("abcd", "f", ["P2"]),
        ("axyz", "f", ["P2"]),
        ("axyz", "g", ["P1", "P2"]),
    ):
        asked.clear()
        faces = whole(names, fingerprint)
        persons_out.answer_all(run, run.fa_net, faces, answers)
        assert asked == again
        kept = np.load(tmp_path / "run" / "fa_net" / "predictions_persons.npz")
        assert list(kept["image_id"]) == list(names)
        np.testing.assert_array_equal(kept["logits"].argmax(1), faces.parts["test"].labels)
        assert evaluate._without_persons(run, faces, "none")["persons_left_out"]["accuracy"] == 1
    assert evaluate._without_persons(run, whole("abcd", "f"), "none") == {}


def test_a_mean_of_trainings_is_not_trained_without_a_person(drawn_jaffe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"flags": {}, "averaged": ["a", "b"]}')
    config = of(TaskConfig, task="jaffe", data=str(drawn_jaffe), run_dir=str(tmp_path / "run"), persons_left_out=True)
    with pytest.raises(InputError, match=r"`persons_left_out`: .*holds a mean of trainings' weights"):
        stage.run(config)


def test_no_person_is_left_out_of_several_sets_at_once(tmp_path: Path) -> None:
    """Their records have each set's own classes, so that trainings without a person would learn wrong labels."""
    few = part(["a"], np.zeros(1, int), [b""], persons=["P1"])
    with pytest.raises(InputError, match=r"`persons_left_out` answers the faces of one set\. Received: `task` 'mixed'"):
        persons_out.check(inputs.FaceSet(("happy",), "f", {"train": few, "val": few, "test": few}), "mixed")
