"""Table 5 by one command with its real stages, on drawn faces and with small networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_tf.labels import TASKS
from fer_tf.reports import report
from fer_tf.runs import find_gans, find_runs
from tests.trainer.conftest import read
from tests.trainer.test_synthesize import real_faces
from tests.trainer.test_table4 import steps_of
from trainer.task import main

pytestmark = pytest.mark.slow

ROWS = {"real": "Fa-Net", "synthetic": "FaPE-GAN+Fa-Net"}


def test_the_command_trains_scores_and_reports_all_four_tasks(
    toy_data: str, tmp_path: Path, tiny: None, sees_faces: None, capsys: pytest.CaptureFixture
) -> None:
    table = tmp_path / "table"
    flags = ["--task=all", f"--data={toy_data}", f"--run_dir={table}", "--draws=0", "--recipe=paper", "--epochs=4"]
    flags += ["--batch_size=32", "--image_size=16", "--precision=float32", "--gan_epochs=1", "--gan_image_size=16"]
    flags += ["--gan_channels=4", "--gan_quality_pairs=4", "--gan_final_pairs=8", "--gan_face_net=none"]
    # The detector's verdict is a coin's here, and an untrained generator passes no other test.
    flags += ["--max_identity_distance=100", "--max_landmark_error=100", "--synthetic_ratio=0.4"]
    assert main(flags) == 0
    printed = capsys.readouterr().out
    assert (table / "table5.md").read_text() in printed
    assert "Table 5: 8 of 8 trainings are done" in printed

    faces, numbers = real_faces(toy_data), read(table, "table5.json")["tasks"]
    for task in TASKS:
        kept = read(table, task, "gan", "synthetic", "plan.json")["counts"]["kept"]
        assert kept > 0
        tested = {name for name, face in faces.items() if getattr(face, task) == "test"}
        trained = {}
        for folder, row in ROWS.items():
            run = table / task / "seed-0" / folder
            with np.load(run / "fa_net" / "predictions_test.npz") as answers:
                right = answers["logits"].argmax(1) == answers["label"]
                assert set(answers["image_id"]) == tested
            assert numbers[task][row]["accuracy"] == [pytest.approx(100 * right.mean())]
            config = read(run, "config.json")["flags"]
            assert (config["task"], config["synthetic"], config["epochs"]) == (task, folder == "synthetic", 4)
            assert (config["epoch_faces"] > 0) == config["synthetic"]
            trained[folder] = steps_of(run)
        # As many optimizer steps, though one row has more faces to choose from.
        assert trained["synthetic"] == trained["real"] > 0

    # Each of the eight is found again, and a generator is no run.
    assert len(find_runs(str(table))) == 8 and len(find_gans(str(table))) == 4
    assert report.main([f"--runs={table}", f"--data={toy_data}", "--max_faces=8", f"--output={tmp_path}/report"]) == 0
    assert "Table 5" in (tmp_path / "report" / "report.html").read_text()

    # What is done is not done again.
    before = {path: path.stat().st_mtime_ns for path in table.rglob("*.weights.h5")}
    assert len(before) >= 12
    assert main(flags) == 0
    assert {path: path.stat().st_mtime_ns for path in table.rglob("*.weights.h5")} == before
