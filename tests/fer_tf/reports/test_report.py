"""The report is one page that stands alone, with every figure and table or what each would need."""

from __future__ import annotations

import base64
import json
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.config import run_command
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.reports import report
from fer_tf.reports.sheets import first_faces, mean_saliency
from tests.fer_tf.reports.test_runs_and_tables import write_run
from tests.toy_data import EXPRESSIONS


@pytest.fixture(scope="module")
def page(toy_data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("report")
    write_run(folder / "runs" / "er_ss", "er_ss", [1, 1, 1, 0], seed=3)
    write_run(folder / "runs" / "fer2013", "fer2013", [1, 0, 1, 1])
    args = [f"--runs={folder}/runs", f"--data={toy_data}", f"--output={folder}/out", "--groups=3"]
    assert report.main(args) == 0
    return (folder / "out" / "report.html").read_text(), folder


def picture(uri: str) -> np.ndarray:
    content = base64.b64decode(uri.split(",", 1)[1])
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def without_tags(text: str) -> str:
    return re.sub(r"<[^>]+>", "", text)


def test_the_page_stands_alone(page: tuple[str, Path]) -> None:
    text, _ = page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    assert "<script" not in text and "http" not in text.replace("http://www.w3.org", "")


def test_every_figure_and_table_is_there_or_says_what_it_needs(page: tuple[str, Path]) -> None:
    text, folder = page
    for name in ("Fig. 1(b)", "Fig. 2", "Fig. 3(b)", "Fig. 4", "Fig. 6", "Fig. 7(a)", "Fig. 8(b)"):
        assert name in text
    for number in range(1, 6):
        assert f"Table {number}." in text
        for ending in ("csv", "tex"):
            assert (folder / "out" / "tables" / f"table_{number}.{ending}").stat().st_size > 50
    assert "needs JAFFE: python -m trainer.task --task=jaffe" in without_tags(text)
    assert "needs a FaPE-GAN" in text


def test_numbers_carry_interval_seed_and_command(page: tuple[str, Path]) -> None:
    text, folder = page
    assert "<span>75.0</span><small>[40.0, 90.0] seed 3</small>" in text
    assert "python -m trainer.task --task=er_ss" in without_tags(text)
    assert f"python -m fer_tf.reports.report --runs={folder}/runs" in without_tags(text)
    assert "adjusted Rand index of" in text


def test_pictures_have_texts_for_those_who_do_not_see_them(page: tuple[str, Path]) -> None:
    text, _ = page
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) >= 6
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)


def test_generated_faces_carry_their_numbers_seed_and_command(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "er_up"
    (run / "fape_gan" / "samples").mkdir(parents=True)
    cv2.imwrite(str(run / "fape_gan" / "samples" / "epoch-0002.png"), np.zeros((8, 8, 3), np.uint8))
    kept = {"held_out_identity_kept": 0.8125, "held_out_landmark_error": 0.064, "held_out_ssim": 0.7}
    (run / "fape_gan" / "history.json").write_text(json.dumps([{"epoch": 0}, {"epoch": 1, **kept}]))
    command = ["task.py", "--task=er_up", "--stage=fape_gan"]
    (run / "config.json").write_text(json.dumps({"flags": {"seed": 5}, "command": command}))
    picture = report.gan_pictures(str(tmp_path / "runs"))[0]
    assert "er_up, epoch-0002, seed 5" in picture.text
    assert "identity kept 81%, landmark error 6.4% of" in picture.text
    assert picture.text.endswith("python -m trainer.task --task=er_up --stage=fape_gan")


def test_nothing_to_report_is_an_error_that_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    args = [f"--runs={tmp_path}/runs", f"--data={tmp_path}/data", f"--output={tmp_path}/out"]
    assert run_command(report.main, args) == 2
    assert "/runs' is none" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    assert run_command(report.main, args) == 2
    assert "nothing to report" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report", "look"])
def test_the_former_name_of_a_command_forwards_and_says_the_new_one(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"fer_tf.evaluation.{name}", run_name="__main__")
    shown = capsys.readouterr()
    assert (
        stopped.value.code == 0
        and f"python -m fer_tf.reports.{name}" in shown.err
        and "usage: python -m fer_tf.reports" in shown.out
    )


def test_the_sheet_shows_each_kind_once(toy_data: str) -> None:
    faces = first_faces(toy_data, EXPRESSIONS, ["front", "half_left"])
    found = {(face.expression, face.pose): face for face in faces}
    assert len(faces) == len(found) == 2 * len(EXPRESSIONS)
    shown = found["happy", "front"]
    assert picture(shown.image).shape == (96, 96, 3) and picture(shown.mask).shape == (96, 96)
    assert shown.image_id.startswith("T000/happy/front.mp4") and shown.image != found["sad", "front"].image


def test_saliency_is_averaged_by_expression_and_pose(toy_data: str, tmp_path: Path) -> None:
    spec = FaNetSpec(EXPRESSIONS, image_size=32)
    fa_net.save(str(tmp_path / "run" / "fa_net"), fa_net.build(spec), spec)
    rows, columns = mean_saliency(str(tmp_path / "run"), "er_ss", toy_data, ["front", "bird_view"], 1)
    assert [name for name, _ in rows] == list(EXPRESSIONS) and columns == ["front", "bird view"]
    assert all(picture.shape == (32, 32, 3) for _, pictures in rows for picture in pictures)
