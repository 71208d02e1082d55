"""A competitor is trained, scored, resumed and reported like Fa-Net."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_tf import competitors
from fer_tf.config import of
from fer_tf.errors import InputError
from fer_tf.reports import report
from tests.trainer.conftest import PERSONS
from trainer.config import TaskConfig
from trainer.task import main


def train(data: Any, run_dir: Any, *more: str) -> int:
    return main([f"--data={data}", f"--run_dir={run_dir}", *more])


@pytest.fixture(scope="module")
def run_dir(drawn_jaffe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "jaffe_hog_knn"
    assert train(drawn_jaffe, folder, "--task=jaffe", "--method=hog_knn") == 0
    return folder


def metrics_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "metrics.json").read_text())


def test_its_run_folder_has_what_fa_nets_has(run_dir: Path) -> None:
    found = metrics_of(run_dir)
    assert (found["method"], found["finished"], found["task"]) == ("hog_knn", True, "jaffe")
    assert found["test"]["faces"] == 70 and found["test"]["accuracy"] > 0.9
    assert found["val"]["faces"] == 23 and found["spec"]["temperature"] != 1.0
    assert (
        found["images_per_second"] > 0 and found["size_bytes"] == (run_dir / "competitor/method.joblib").stat().st_size
    )
    kept = np.load(run_dir / "competitor" / "predictions_test.npz")
    assert (kept["logits"].argmax(1) == kept["label"]).mean() == pytest.approx(found["test"]["accuracy"])
    assert found["training"]["chosen"]["n_neighbors"] in (1, 3, 5, 9, 15)


def test_every_face_is_also_answered_without_its_person(run_dir: Path) -> None:
    found = metrics_of(run_dir)["persons_left_out"]
    assert found["faces"] == 213 and len(found["by_person"]) == 10
    kept = np.load(run_dir / "competitor" / "predictions_persons.npz")
    for person in PERSONS:
        alone = np.load(run_dir / "competitor" / "persons" / f"{person}.npz")["logits"]
        np.testing.assert_allclose(kept["logits"][kept["person"] == person], alone)


def test_the_page_and_the_report_name_it(run_dir: Path, tmp_path: Path) -> None:
    page = (run_dir / "evaluation.html").read_text()
    assert "<h1>HOG+KNN on JAFFE</h1>" in page and "each person left out of training in turn" in page
    assert "chosen among them: n_neighbors" in page
    args = [f"--runs={run_dir.parent}", f"--data={tmp_path}/none", f"--output={tmp_path}/report"]
    assert report.main(args) == 0
    table = (tmp_path / "report" / "tables" / "table_3.csv").read_text()
    assert (
        "HOG+KNN,-," in table and "needs JAFFE: python -m trainer.task --task=jaffe --data=PATH --method=fish" in table
    )
    # It is no Fa-Net: those figures still need one.
    assert "needs JAFFE" in (tmp_path / "report" / "report.html").read_text().split("Fig. 8(a)")[1][:300]


def test_a_finished_run_is_scored_again_alike_and_its_method_is_bound(
    run_dir: Path, drawn_jaffe: Path, capsys: pytest.CaptureFixture
) -> None:
    before = metrics_of(run_dir)
    written = (run_dir / "competitor" / "method.joblib").stat().st_mtime_ns
    assert train(drawn_jaffe, run_dir, "--task=jaffe", "--method=hog_knn") == 0
    after = metrics_of(run_dir)
    assert (run_dir / "competitor" / "method.joblib").stat().st_mtime_ns == written
    assert before.pop("images_per_second") and after.pop("images_per_second") and before == after
    with pytest.raises(InputError, match=r"`method` was 'hog_knn' when this run began\. Received: 'fa_net'"):
        train(drawn_jaffe, run_dir, "--task=jaffe")


def test_leaving_persons_out_goes_on_where_it_stopped(
    drawn_jaffe: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, built = competitors.build, []

    def build_some(name: str, work: Any) -> Any:
        built.append(work.folder)
        if len(built) == 4:
            raise KeyboardInterrupt
        return build(name, work)

    monkeypatch.setattr(competitors, "build", build_some)
    with pytest.raises(KeyboardInterrupt):
        train(drawn_jaffe, tmp_path / "run", "--task=jaffe", "--method=hog_knn", "--stage=fa_net")
    network = tmp_path / "run" / "competitor"
    assert not (network / "FINISHED").exists() and len(list(network.glob("persons/*.npz"))) == 2
    # Six persons more are answered, as an unbroken run does.
    for path in sorted(run_dir.glob("competitor/persons/*.npz"))[2:8]:
        shutil.copy(path, network / "persons")
    assert train(drawn_jaffe, tmp_path / "run", "--task=jaffe", "--method=hog_knn", "--stage=fa_net") == 0
    # The whole, then the two persons who are left.
    assert len(built) == 4 + 1 + 2 and (network / "FINISHED").exists()
    unbroken, own = (np.load(run / "predictions_persons.npz")["logits"] for run in (run_dir / "competitor", network))
    np.testing.assert_array_equal(own, unbroken)


def test_a_task_of_the_pipeline_is_learned_from_its_records(toy_data: str, tmp_path: Path) -> None:
    assert train(toy_data, tmp_path / "run", "--task=er_zid", "--method=lbp_knn") == 0
    found = metrics_of(tmp_path / "run")
    assert found["test"]["accuracy"] > 0.5 and found["test"]["by_pose"] and "persons_left_out" not in found
    assert found["spec"]["image_size"] == 64 and not found["spec"]["aligned"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"method": "svm"}, r"`method` must be one of \('fa_net', 'fisherface'.*Received: 'svm'"),
        ({"method": "hog_svm", "stage": "fape_gan"}, "`stage` 'fape_gan' belongs to --method=fa_net"),
        ({"method": "hog_svm", "task": "all"}, "`task` 'all' belongs to --method=fa_net"),
    ],
)
def test_flags_that_do_not_fit_are_named(flags: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        of(TaskConfig, **flags)
    assert TaskConfig(method="hog_svm", task="jaffe").run.run_dir == "runs/jaffe_hog_svm"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recipe", "paper"),
        ("variant", "light_cnn_29"),
        ("batch_size", 8),
        ("labels", "majority"),
        ("balance", "sampling"),
        ("init_from", "pretrained"),
        ("teacher", "pretrained"),
        ("mirror", True),
        ("mixup", 0.2),
        ("set_weights", "jaffe=3"),
    ],
)
def test_what_would_be_recorded_and_not_done_is_refused(name: str, value: Any) -> None:
    message = rf"`{name}` is Fa-Net's, .*Received: {value!r} with `method` 'hog_svm'; leave it out"
    with pytest.raises(InputError, match=message):
        of(TaskConfig, method="hog_svm", task="mixed", **{name: value})
    # A run that was begun with it can still be scored.
    assert of(TaskConfig, method="hog_svm", task="mixed", stage="evaluate", **{name: value}).is_competitor


def test_what_a_competitor_reads_is_taken() -> None:
    read = {"epochs": 3, "image_size": 32, "synthetic": False, "synthetic_from": "runs/a", "seed": 2}
    of(TaskConfig, method="cnn_svm", task="er_ss", persons_left_out=True, tta="flip", **read)
