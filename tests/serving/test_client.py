"""The client finds faces, asks the server, follows faces through a clip, and says what it could not read."""

from __future__ import annotations

import csv
import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fer_tf.config import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_OK, run_command
from fer_tf.errors import InputError
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.recognition.answers import encode_face
from fer_tf.recognition.server import Connection
from serving import client
from tests.serving.conftest import EXPRESSIONS

CLIP = "take_1/P004/happy/front.mp4"


def test_a_picture_gives_each_face_the_answer_of_its_aligned_crop(
    two_faces: str, address: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    drawing = tmp_path / "new" / "annotated.png"
    code = client.main([two_faces, f"--server={address}", "--json", f"--output={drawing}", "--timeout=60"])
    assert code == EXIT_OK
    (result,) = json.loads(capsys.readouterr().out)
    assert result["input"] == two_faces and len(result["faces"]) == 2
    rgb = cv2.imread(two_faces)[..., ::-1]
    extractor = FaceExtractor()
    faces = extractor.faces_in_image(np.ascontiguousarray(rgb))
    extractor.close()
    with Connection(address, timeout_s=60) as connection:
        answers = connection.classify_encoded([encode_face(face.image) for face in faces])
    for shown, face, answer in zip(result["faces"], faces, answers, strict=True):
        np.testing.assert_allclose(shown["box"], face.box, atol=0.06)
        assert shown["expression"] == answer.best()[0][0]
        np.testing.assert_allclose(
            [shown["probabilities"][name] for name in EXPRESSIONS], answer.probabilities, atol=1e-5
        )
    # Boxes and bars were drawn on the faces and nowhere far from them.
    drawn = cv2.imread(str(drawing))
    changed = np.abs(drawn.astype(int) - cv2.imread(two_faces)).max(-1) > 20
    x, y, _, height = (round(value) for value in result["faces"][0]["box"])
    assert changed[y : y + height, x - 2 : x + 3].mean() > 0.7
    assert not changed[:, :20].any() and changed.mean() < 0.2


def test_a_server_is_asked_about_each_face_and_its_mirror_image(
    two_faces: str, address: str, capsys: pytest.CaptureFixture
) -> None:
    assert client.main([two_faces, f"--server={address}", "--json", "--tta=flip", "--timeout=60"]) == EXIT_OK
    shown = json.loads(capsys.readouterr().out)[0]["faces"]
    with closing(FaceExtractor()) as extractor, Connection(address, timeout_s=60) as connection:
        faces = extractor.faces_in_image(np.ascontiguousarray(cv2.imread(two_faces)[..., ::-1]))
        both = [[face.image, np.ascontiguousarray(face.image[:, ::-1])] for face in faces]
        asked = [connection.classify_encoded([encode_face(view) for view in views]) for views in both]
    assert len(shown) == 2
    for face, (plain, mirrored) in zip(shown, asked, strict=True):
        middle = np.sqrt(plain.probabilities * mirrored.probabilities)
        found = [face["probabilities"][name] for name in EXPRESSIONS]
        np.testing.assert_allclose(found, middle / middle.sum(), atol=1e-5)
        assert face["is_face"] == pytest.approx((plain.is_face + mirrored.is_face) / 2, abs=1e-4)


def test_explain_says_that_a_whole_photograph_is_no_face_crop(
    samples: Path, address: str, capsys: pytest.CaptureFixture
) -> None:
    photo = str(samples / "photo.jpg")
    assert client.main([photo, f"--server={address}", "--json", "--explain", "--timeout=60"]) == EXIT_OK
    printed = capsys.readouterr()
    (face,) = json.loads(printed.out)[0]["faces"]
    said = [line for line in printed.err.splitlines() if line.startswith(f"{photo}: ")]
    assert said[0] == f"{photo}: face 1: is_face {face['is_face']:.2f}" and face["is_face"] > 0.9
    assert (
        "sent whole instead: " in said[1] and "probably no face crop, so that its expression means nothing" in said[1]
    )


def test_a_table_is_printed_and_bad_files_are_listed(
    samples: Path, address: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    inputs = [str(samples / "photo.jpg"), str(tmp_path / "broken.jpg"), str(tmp_path / "missing.mp4")]
    assert client.main([*inputs, f"--server={address}", "--timeout=60"]) == EXIT_INCOMPLETE
    printed = capsys.readouterr()
    assert "photo.jpg: 1 face" in printed.out and any(name in printed.out for name in EXPRESSIONS)
    assert "broken.jpg: not_a_video" in printed.err and "missing.mp4: missing" in printed.err


def test_a_video_gets_csv_and_annotated_video_with_a_followed_face(
    samples: Path, address: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = [f"--server={address}", "--json", f"--output={tmp_path}", "--frames_per_second=10", "--timeout=60"]
    assert client.main([str(samples / CLIP), *flags]) == EXIT_OK
    (result,) = json.loads(capsys.readouterr().out)
    with open(result["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    times = [float(row["time"]) for row in rows]
    assert len(rows) == result["frames_looked_at"] == 5 and {row["face"] for row in rows} == {"1"}
    np.testing.assert_allclose(np.diff(times), 0.1, atol=0.021)
    probabilities = np.array([[float(row[name]) for name in EXPRESSIONS] for row in rows])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-3)
    np.testing.assert_allclose(list(result["faces"][0]["probabilities"].values()), probabilities.mean(0), atol=1e-4)
    with av.open(result["annotated"]) as drawn, av.open(str(samples / CLIP)) as original:
        pairs = list(zip(drawn.decode(video=0), original.decode(video=0), strict=True))
    assert len(pairs) == 12
    np.testing.assert_allclose([float(a.time) for a, _ in pairs], [float(b.time) for _, b in pairs], atol=0.002)
    # Every frame, also those between two looks, has the box on the face.
    for drawn_frame, frame in pairs:
        difference = np.abs(drawn_frame.to_ndarray(format="rgb24").astype(int) - frame.to_ndarray(format="rgb24"))
        assert (difference.max(-1) > 60).mean() > 0.005
    assert not list(tmp_path.glob(".*"))


def test_the_predictor_of_the_network_is_asked_for_and_another_is_refused_or_warned_of(
    samples: Path,
    address: str,
    other_predictor: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Connection(address, timeout_s=60) as connection:
        assert connection.landmark_model == "shape_predictor_68_face_landmarks (dlib 19.24)"
        assert connection.expressions == EXPRESSIONS
    photo, flags = str(samples / "photo.jpg"), [f"--server={address}", "--timeout=60"]
    assert client.main([photo, *flags, f"--landmark_model={other_predictor}"]) == EXIT_OK
    assert "learned from faces aligned by shape_predictor_68_face_landmarks (dlib 19.24)" in caplog.text
    caplog.clear()
    monkeypatch.setattr(Connection, "landmark_model", "of_our_own (dlib 20)")
    with pytest.raises(InputError, match=r"aligned by 'of_our_own \(dlib 20\)'.*--landmark_model"):
        client.main([photo, *flags])
    assert client.main([photo, *flags, f"--landmark_model={other_predictor}"]) == EXIT_OK
    assert "learned from" not in caplog.text


def test_a_dead_server_is_named_before_any_work(samples: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_command(client.main, [str(samples / "photo.jpg"), "--server=localhost:1"]) == EXIT_FAILED
    assert "no server answers at localhost:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["a.jpg", "b.jpg", "--output=c.jpg"], "must be a folder for several inputs"),
        (["a.jpg", "--output=c.mp4"], r"must end in one of \('.jpg'"),
        (["a.jpg", "--output=gs://bucket/c"], r"`output` must be a path on this machine.*'gs://bucket/c'"),
    ],
)
def test_an_output_that_does_not_fit_is_refused(
    flags: list[str], message: str, samples: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(samples / "photo.jpg", name)
    with pytest.raises(InputError, match=message):
        client.main([*flags, f"--server={address}", "--timeout=60"])


def test_inputs_of_one_name_keep_the_folders_that_tell_them_apart(samples: Path, address: str, tmp_path: Path) -> None:
    paths = [tmp_path / folder / name for folder, name in (("one", "a.jpg"), ("two", "a.jpg"), ("two", "b.jpg"))]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        shutil.copy(samples / "photo.jpg", path)
    assert client.main([*map(str, paths), f"--server={address}", f"--output={tmp_path / 'out'}", "--timeout=60"]) == 0
    drawn = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert drawn == ["b.jpg.annotated.jpg", "one/a.jpg.annotated.jpg", "two/a.jpg.annotated.jpg"]


def test_a_drawing_that_cannot_be_written_is_an_error(samples: Path, address: str, tmp_path: Path) -> None:
    # A folder stands where the picture should go.
    (tmp_path / "photo.jpg.annotated.jpg").mkdir()
    flags = [f"--server={address}", f"--output={tmp_path}", "--timeout=60"]
    with pytest.raises(InputError, match=r"photo\.jpg\.annotated\.jpg' was not written by an earlier run"):
        client.main([str(samples / "photo.jpg"), *flags])
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg.annotated.jpg"]


def test_an_input_is_never_replaced_by_what_is_drawn_of_it(
    samples: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(samples / "photo.jpg", "photo.jpg")
    shutil.copy(samples / CLIP, "clip.mp4")
    os.link("photo.jpg", "link.jpg")
    Path("clip.csv").write_text("video,person\nclip.mp4,P1\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for source, output, message in (
        ("photo.jpg", "photo.jpg", "'photo.jpg' would replace the input 'photo.jpg'"),
        ("photo.jpg", "link.jpg", "'link.jpg' would replace the input 'photo.jpg'"),
        ("./clip.mp4", f"{tmp_path}/clip.mp4", "would replace the input"),
        # A video's table stands beside its drawing, under a name that nobody wrote.
        (str(samples / CLIP), "clip.mp4", "'clip.csv' was not written by an earlier run"),
    ):
        with pytest.raises(InputError, match=message):
            client.main([source, f"--output={output}", f"--server={address}", "--timeout=60"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_inputs_the_usage_is_shown(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        client.main([])
    assert caught.value.code == 2 and "python -m serving.client photo.jpg" in capsys.readouterr().err
