"""A run's maps are drawn for single faces, by expression and pose, and from nothing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.config import run_command
from fer_tf.evaluation import saliency
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.reports import look
from tests.toy_data import EXPRESSIONS, draw


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    spec = FaNetSpec(EXPRESSIONS, image_size=32)
    fa_net.save(str(folder / "fa_net"), fa_net.build(spec), spec)
    (folder / "config.json").write_text(json.dumps({"flags": {"task": "er_ss"}}))
    return folder


def test_single_faces_are_explained_by_each_method(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    face, _, _ = draw("happy", "front", 1)
    cv2.imwrite(str(tmp_path / "face.png"), face[..., ::-1])
    args = [str(tmp_path / "face.png"), f"--run_dir={run_dir}", "--expression=happy", f"--output={tmp_path}"]
    assert look.main(args) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "faces.png")
    assert cv2.imread(str(tmp_path / "faces.png")).shape[1] == 1000
    assert list((run_dir / "tensorboard" / "saliency").glob("events*"))


def test_the_published_network_is_looked_at_by_its_name_and_nothing_is_written_beside_it(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert look.main([str(samples / "photo.jpg"), "--run_dir=pretrained", "--given=true", "--method=layercam"]) == 0
    assert capsys.readouterr().out.strip() == "faces.png"
    assert [path.name for path in tmp_path.iterdir()] == ["faces.png"]


def test_in_a_photo_the_face_is_found_and_what_shows_none_is_taken_as_a_face(samples: Path, tmp_path: Path) -> None:
    flat = np.full((120, 100, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "flat.png"), flat)
    photo = str(samples / "photo.jpg")
    spec = FaNetSpec(EXPRESSIONS, image_size=32, crop=0.92, aligned_crop=0.82)
    (crop, aligned), (whole, share) = look.crops_of(look.LookConfig(images=(photo, str(tmp_path / "flat.png"))), spec)
    assert crop.shape == (256, 256, 3) and (whole == flat).all()
    # What is taken whole is seen as a face that was given, which it then is.
    assert (aligned, share) == (0.82, 0.92)
    ((given, share),) = look.crops_of(look.LookConfig(images=(photo,), given=True), spec)
    assert given.shape == cv2.imread(photo).shape and share == 0.92


def test_averages_can_be_of_one_pose_and_expression(run_dir: Path, toy_data: str) -> None:
    config = look.LookConfig(
        run_dir=str(run_dir), data=toy_data, method="layercam", pose="front", expression="sad", faces=2
    )
    figure = look.draw(config)["mean_layercam"]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sad"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["front"]


def test_strongest_inputs_name_their_expressions(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = saliency.activation_maximization
    monkeypatch.setattr(saliency, "activation_maximization", lambda *args, **options: few(*args, **options, steps=2))
    figure = look.draw(look.LookConfig(run_dir=str(run_dir), method="activation_maximization"))[look.ACTIVATION]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [", ".join(EXPRESSIONS)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--expression=proud", "--method=activation_maximization"], "`expression` must be one of"),
        (["--pose=up", "--method=layercam"], "`pose` must be one of"),
        (["no_such.png", "--method=layercam"], "`no_such.png`: missing"),
        (["--faces=0"], "`faces` must be at least 1"),
    ],
)
def test_wrong_flags_are_named(
    run_dir: Path, toy_data: str, flags: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    try:
        code = run_command(look.main, [*flags, f"--run_dir={run_dir}", f"--data={toy_data}"])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
