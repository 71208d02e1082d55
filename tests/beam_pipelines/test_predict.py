"""Predict gives each readable file one line, lists the others, and says so by its exit code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines import predict
from fer_tf import config
from fer_tf.config import EXIT_INCOMPLETE, EXIT_OK
from fer_tf.errors import InputError, ServerError
from fer_tf.faces.extractor import ClipFaces, ExtractorOptions, FaceExtractor, Rejected
from fer_tf.recognition.networks import ExportedNetwork, newest_version, pinned
from fer_tf.recognition.reaching import START
from fer_tf.recognition.recognizer import Recognizer
from fer_tf.recognition.server import Connection
from tests.fer_tf.faces.clips import read_frames, write_clip
from tests.fer_tf.faces.heic import heic

ANSWER = ("expression", "probabilities")
CLIP = "take_1/P004/happy/front.mp4"


@pytest.fixture
def folder(samples: Path, tmp_path: Path) -> Path:
    """A video, a picture without a face in a deeper folder, a cut video, and a text file."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(samples / CLIP, tmp_path / "in" / "happy.mp4")
    cv2.imwrite(str(tmp_path / "in" / "deep" / "empty.png"), np.full((120, 120, 3), 90, np.uint8))
    (tmp_path / "in" / "cut.mp4").write_bytes((samples / CLIP).read_bytes()[:2000])
    (tmp_path / "in" / "notes.txt").write_text("no video")
    return tmp_path / "in"


def lines(path: Path) -> dict[str, dict]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return {os.path.basename(line["input"]): line for line in found}


def test_each_file_gets_its_line_and_bad_ones_are_listed(
    folder: Path,
    exported: str,
    samples: Path,
    tmp_path: Path,
) -> None:
    # A batch limit that divides nothing shows that batches do not mix up faces.
    flags = [f"--model={exported}", f"--inputs={folder}", f"--output={tmp_path / 'out'}", "--batch_size=4"]
    assert predict.main([*flags, "--max_keyframes=7"]) == EXIT_INCOMPLETE
    found = lines(tmp_path / "out" / "predictions.jsonl")
    assert set(found) == {"happy.mp4", "empty.png"}
    assert found["empty.png"]["faces"] == [] and found["empty.png"]["frames_decoded"] == 1
    bad = lines(tmp_path / "out" / "rejected.jsonl")
    reasons = {"cut.mp4": "truncated", "empty.png": "no_face", "notes.txt": "not_a_video"}
    assert {name: line["reason"] for name, line in bad.items()} == reasons
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    faces = len(found["happy.mp4"]["faces"])
    assert summary == {"read": 2, "not_read": 1, "other_files": 1, "faces": faces, "left_out": 1}

    extractor = FaceExtractor(ExtractorOptions(max_keyframes=7))
    faces = extractor.extract(str(samples / CLIP)).faces
    extractor.close()
    signature = tf.saved_model.load(newest_version(exported)).signatures["serving_default"]
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    encoded = [cv2.imencode(".jpg", face.image[..., ::-1], quality)[1].tobytes() for face in faces]
    expected = signature(image_bytes=tf.constant(encoded))["probabilities"].numpy()
    line = found["happy.mp4"]
    assert [face["frame"] for face in line["faces"]] == [face.frame for face in faces]
    np.testing.assert_allclose([list(face["probabilities"].values()) for face in line["faces"]], expected, atol=2e-5)
    np.testing.assert_allclose(list(line["probabilities"].values()), expected.mean(0), atol=2e-5)
    names = ("angry", "happy", "sad", "surprise")
    assert line["persons"] == [{"face": 1, "faces": len(faces), **{key: line[key] for key in ANSWER}}]
    assert line["expression"] == names[expected.mean(0).argmax()]
    assert [face["expression"] for face in line["faces"]] == [names[row.argmax()] for row in expected]


def test_a_second_run_into_the_folder_of_its_inputs_gives_the_same(
    samples: Path, exported: str, tmp_path: Path
) -> None:
    shutil.copy(samples / "photo.jpg", tmp_path)
    (tmp_path / "notes.txt").touch()
    flags = [f"--model={exported}", f"--inputs={tmp_path}", f"--output={tmp_path}"]
    found = []
    for _ in range(2):
        # An empty file that promises neither picture nor video is listed alone.
        assert predict.main(flags) == EXIT_OK
        found.append({path.name: path.read_bytes() for path in tmp_path.glob("*.json*")})
    assert found[0] == found[1] and set(lines(tmp_path / "rejected.jsonl")) == {"notes.txt"}
    (tmp_path / "empty.mp4").touch()
    assert predict.main(flags) == EXIT_INCOMPLETE


@pytest.mark.parametrize("name", ["predictions.jsonl", "rejected.jsonl", "summary.json"])
def test_a_users_own_file_is_not_replaced(samples: Path, exported: str, tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.write_text('{"read": "my notes"}\n')
    with pytest.raises(InputError, match=rf"`output`: .*{name}' was not written by an earlier run"):
        predict.main([f"--model={exported}", f"--inputs={samples / 'photo.jpg'}", f"--output={tmp_path}"])
    assert own.read_text() == '{"read": "my notes"}\n' and list(tmp_path.iterdir()) == [own]


def test_other_files_of_a_users_that_are_named_like_predictions_stay(
    samples: Path, exported: str, tmp_path: Path
) -> None:
    own = tmp_path / "predictions-00000-of-00009.jsonl"
    own.write_text("mine\n")
    flags = [f"--model={exported}", f"--inputs={tmp_path}", f"--output={tmp_path}"]
    shutil.copy(samples / "photo.jpg", tmp_path)
    assert predict.main(flags) == EXIT_OK
    assert own.read_text() == "mine\n" and set(lines(tmp_path / "rejected.jsonl")) == {own.name}


def test_a_glob_of_good_files_ends_with_0(folder: Path, exported: str, tmp_path: Path) -> None:
    out = tmp_path / "out [1]*"
    flags = [f"--model={exported}/1", f"--inputs={folder}/deep/*", f"--output={out}"]
    # Each run leaves its own files alone, however many the one before wrote.
    for shards in (1, 2, 1):
        assert predict.main([*flags, f"--num_shards={shards}"]) == EXIT_OK
        found = sorted(path.name for path in out.glob("predictions*"))
        several = [f"predictions-{shard:05d}-of-00002.jsonl" for shard in range(2)]
        assert found == (["predictions.jsonl"] if shards == 1 else several)
        assert sum(len((out / name).read_text().splitlines()) for name in found) == 1
    (rejected,) = (out / "rejected.jsonl").read_text().splitlines()
    assert json.loads(rejected)["reason"] == "no_face"


def test_a_photo_of_two_gives_two_persons_and_one_where_the_subject_is_meant(
    two_faces: str,
    exported: str,
    tmp_path: Path,
) -> None:
    # The second name is no UTF-8.
    photo, clip = tmp_path / "in" / "two [of us].png", tmp_path / "in" / os.fsdecode(b"z\xe9.mp4")
    photo.parent.mkdir()
    shutil.copy(two_faces, photo)
    picture = cv2.imread(two_faces)[..., ::-1]
    write_clip(clip, [picture[: picture.shape[0] & ~1, : picture.shape[1] & ~1]] * 2)
    for subject, count in (("all", 2), ("main", 1)):
        flags = [f"--model={exported}", f"--inputs={photo.parent}", f"--output={tmp_path}", f"--subject={subject}"]
        assert predict.main(flags) == EXIT_OK
        found = lines(tmp_path / "predictions.jsonl")
        for line in found.values():
            assert [person["face"] for person in line["persons"]] == list(range(1, count + 1))
            # The file's answer is the main person's, who is the larger.
            assert {key: line[key] for key in ANSWER} == {key: line["persons"][0][key] for key in ANSWER}
        assert [len(line["faces"]) for _, line in sorted(found.items())] == [count, 2 * count]


def test_another_person_in_the_same_place_after_a_cut_is_another_person(
    samples: Path,
    exported: str,
    tmp_path: Path,
) -> None:
    frames = [read_frames(samples / f"take_1/{person}/happy/front.mp4")[-4:] for person in ("P001", "P004")]
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "cut.mp4", [*frames[0], *frames[1]])
    flags = [f"--model={exported}", f"--inputs={tmp_path / 'in'}", f"--output={tmp_path}", "--keyframe_rule=uniform"]
    assert predict.main(flags) == EXIT_OK
    (line,) = lines(tmp_path / "predictions.jsonl").values()
    assert [face["face"] for face in line["faces"]] == [1] * 4 + [2] * 4
    assert all(face["landmarks_trusted"] for face in line["faces"])


def test_another_predictor_than_the_networks_is_refused(
    samples: Path,
    exported: str,
    other_predictor: str,
    tmp_path: Path,
) -> None:
    model = tmp_path / "model"
    shutil.copytree(exported, model)
    facts = model / "1" / "assets.extra" / "model.json"
    facts.write_text(facts.read_text().replace("shape_predictor_68_face_landmarks", "of_our_own"))
    flags = [f"--model={model}", f"--inputs={samples / 'photo.jpg'}", f"--output={tmp_path / 'out'}"]
    with pytest.raises(InputError, match=r"aligned by 'of_our_own .*--landmark_model=packaged"):
        predict.main(flags)
    assert predict.main([*flags, f"--landmark_model={other_predictor}"]) == EXIT_OK


def test_whatever_the_reader_reads_is_read_and_the_rest_is_listed_by_an_extractor_and_a_network_loaded_once(
    exported: str,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PIL import Image

    made: list[str] = []

    def counted(make: Any) -> Any:
        return lambda *args: [made.append(make.__name__), make(*args)][1]

    monkeypatch.setattr(predict, "FaceExtractor", counted(predict.FaceExtractor))
    monkeypatch.setattr(predict.networks, "ExportedNetwork", counted(ExportedNetwork))

    root = tmp_path / "clips [raw]*"
    (root / ".thumbnails").mkdir(parents=True)
    frame = read_frames(samples / CLIP)[-1]
    for name in ("a.webp", "a.bmp", "a.tiff", "a.avif", "no_suffix.jpg", "wrong.txt.gif"):
        Image.fromarray(frame).save(root / name)
    (root / "no_suffix.jpg").rename(root / "no_suffix")
    (root / "a.heic").write_bytes(heic([frame], 1, *frame.shape[1::-1]))
    Image.fromarray(frame).save(root / "moving.webp", save_all=True, append_images=[Image.fromarray(frame)])
    shutil.copy(samples / CLIP, root / "a.3gp")
    (root / "annotations.csv").write_text("video,person\n")
    (root / ".thumbnails" / "a.jpg").write_bytes(b"x")
    out = tmp_path / "out"
    assert predict.main([f"--model={exported}", f"--inputs={root}", f"--output={out}", "--max_keyframes=1"]) == EXIT_OK
    found = lines(out / "predictions.jsonl")
    assert {name for name, line in found.items() if len(line["faces"]) == 1} == {
        *("a.webp", "a.bmp", "a.tiff", "a.avif", "a.heic", "no_suffix", "wrong.txt.gif", "moving.webp", "a.3gp"),
    }
    bad = lines(out / "rejected.jsonl")
    assert {name: line["reason"] for name, line in bad.items()} == {"annotations.csv": "not_a_video"}
    assert sorted(made) == ["ExportedNetwork", "FaceExtractor"]


def test_a_missing_model_or_input_is_named(tmp_path: Path, exported: str, samples: Path) -> None:
    with pytest.raises(InputError, match=rf"--model\).*'pretrained'.*serving\.export.*Received: '{tmp_path}'"):
        predict.main([f"--model={tmp_path}", f"--inputs={samples / 'photo.jpg'}", f"--output={tmp_path / 'out'}"])
    with pytest.raises(InputError, match="`inputs`"):
        predict.main([f"--model={exported}", f"--inputs={tmp_path}/nothing"])
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match="`landmark_model` must be a dlib shape predictor file"):
        predict.main([f"--model={exported}", f"--inputs={tmp_path}", f"--output={tmp_path}", "--landmark_model=no.dat"])


def test_whatever_a_recognizer_asks_is_asked_in_as_many_views(
    fa_net_dir: str,
    address: str,
    samples: Path,
    tmp_path: Path,
) -> None:
    """A run's weights and a server as one; the answers are the recognizer's to the same keyframes."""
    flags = [f"--inputs={samples / CLIP}", f"--output={tmp_path}", "--max_keyframes=5", "--batch_size=2"]
    found = {}
    model = f"{fa_net_dir}+{address}"
    for tta in ("none", "views"):
        assert predict.main([*flags, f"--model={model}", f"--tta={tta}"]) == EXIT_OK
        (line,) = lines(tmp_path / "predictions.jsonl").values()
        names = list(line["faces"][0]["probabilities"])
        found[tta] = [[face["probabilities"][name] for name in names] for face in line["faces"]]
        with Recognizer.load(model, tta=tta, max_keyframes=5) as recognize:
            table = recognize(samples / CLIP, keyframes=True).table()
        assert len(table) == len(found[tta]) == 5
        np.testing.assert_allclose(found[tta], table[names], atol=1e-4)
    # What is seen in six views is answered otherwise than in one.
    assert np.abs(np.subtract(found["views"], found["none"])).max() > 0.002


def test_the_newest_version_is_taken_by_number(tmp_path: Path) -> None:
    for name in ("2", "10", "9", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    assert newest_version(str(tmp_path)) == pinned(str(tmp_path)) == str(tmp_path / "10")
    assert newest_version(str(tmp_path / "9")) == pinned(str(tmp_path / "9")) == str(tmp_path / "9")
    assert newest_version(str(tmp_path / "nothing")) == "" and pinned("localhost:8500") == "localhost:8500"


def test_a_server_that_is_not_there_or_ends_in_the_middle_is_told_in_a_line(
    address: str, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    flags = [f"--inputs={samples / 'photo.jpg'}", f"--output={tmp_path}"]
    assert config.run_command(predict.main, ["--model=localhost:1", *flags]) == config.EXIT_FAILED
    assert capsys.readouterr().err == f"error: no server answers at localhost:1; {START}\n"

    def gone(self: Connection, images: Any) -> Any:
        raise ServerError(f"{self.address} answered UNAVAILABLE: Socket closed")

    monkeypatch.setattr(Connection, "classify_encoded", gone)
    assert config.run_command(predict.main, [f"--model={address}", *flags]) == config.EXIT_FAILED
    assert f"error: {address} answered UNAVAILABLE: Socket closed\n" in capsys.readouterr().err
    assert not (tmp_path / "predictions.jsonl").exists()


def test_a_clip_that_was_turned_is_listed_and_not_counted_among_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded:
        """What a worker keeps."""

    found = ClipFaces((), (Rejected("turned", -1), Rejected("no_face", 3)), 4, 1, 1.0)
    for name, stands_for in (("found_faces", found), ("FaceExtractor", None), ("Describer", None)):
        monkeypatch.setattr(predict, name, lambda *_, stands_for=stands_for: stands_for or Loaded())
    given = predict.FindFaces(ExtractorOptions(), True, "none").process(os.fsencode(tmp_path / "a.mp4"))
    tagged = [(item.tag, json.loads(item.value)["reason"]) for item in given if item.tag != "files"]
    assert tagged == [("noted", "turned"), ("left_out", "no_face")]


def test_relative_paths_mean_the_same_to_workers_in_another_folder(
    workers_elsewhere: Path, samples: Path, fa_net_dir: str, other_predictor: str
) -> None:
    (workers_elsewhere / "run").symlink_to(fa_net_dir)
    (workers_elsewhere / "in").mkdir()
    shutil.copy(samples / "photo.jpg", workers_elsewhere / "in")
    (workers_elsewhere / "in" / "notes.txt").touch()
    (workers_elsewhere / "own.dat").symlink_to(other_predictor)
    flags = ["--model=run+run", "--inputs=in", "--output=out", "--landmark_model=own.dat"]
    assert predict.main(flags) == EXIT_OK
    for name, given in (("predictions", "in/photo.jpg"), ("rejected", "in/notes.txt")):
        # Told as they were given.
        (line,) = lines(workers_elsewhere / "out" / f"{name}.jsonl").values()
        assert line["input"] == given
    assert predict.main(["--model=run", *flags[1:3], "--landmark_model=packaged"]) == EXIT_OK
