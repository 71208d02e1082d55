"""Table 4 by one command: public sets from fresh weights and after a corpus of several poses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.config import of, to_dict
from fer_tf.errors import InputError
from fer_tf.evaluation.metrics import mean_over_classes
from fer_tf.models import fa_net as networks
from fer_tf.reports import report
from fer_tf.runs import find_gans, find_runs
from tests.trainer.conftest import read
from trainer import cells, table4
from trainer.config import TaskConfig
from trainer.task import main

SMALL = ["--batch_size=32", "--image_size=16", "--precision=float32", "--epochs=1"]
LARGER_STEPS = ["--learning_rate=0.01", "--pretrain_epochs=3", "--pretrain_batch_size=16"]


def flags(table: Path, corpus: str, jaffe: Path, *more: str) -> list[str]:
    data = f"--data=er_ss={corpus},jaffe={jaffe}"
    return ["--task=pretraining", data, f"--run_dir={table}", *SMALL, *LARGER_STEPS, *more]


def hits(run: Path, part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Which faces are right, and their classes, by name."""
    with np.load(run / "fa_net" / f"predictions_{part}.npz") as answers:
        order = np.argsort(answers["image_id"])
        return (answers["logits"].argmax(1) == answers["label"])[order], answers["label"][order]


def last_cell(table: Path) -> str:
    """That of the last row and column of the table as it is printed."""
    rows = [line for line in (table / "table4.md").read_text().splitlines() if line.startswith("|")]
    return rows[-1].split("|")[-2].strip()


def steps_of(run: Path) -> int:
    """How many steps the optimizer of a run's newest checkpoint has taken."""
    newest = tf.train.load_checkpoint(str(run / "fa_net" / "checkpoints"))
    return int(newest.get_tensor("optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE"))


def as_papers(cell: TaskConfig, stages: tuple[str, ...]) -> None:
    """Leaves a folder of the other recipe as if it had been trained: what is asked here is where its rows stand."""
    shutil.copytree(cell.run.run_dir.replace("best-", "paper-"), cell.run.run_dir)
    cell.folder.write_config({**cell.folder.read_config(), "flags": to_dict(cell)})


def test_a_set_is_trained_from_fresh_weights_and_from_the_corpus_network(
    toy_data: str,
    drawn_jaffe: Path,
    tmp_path: Path,
    tiny: None,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = tmp_path / "table"
    real = flags(table, toy_data, drawn_jaffe, "--synthetic=false", "--recipe=paper")
    assert main([*real, "--seeds=2"]) == 0
    printed = capsys.readouterr().out
    assert (table / "table4.md").read_text() in printed and "Table 4: 4 of 4 trainings are done" in printed

    corpus = table / "er_ss" / "paper-16" / "real"
    config = read(corpus, "config.json")["flags"]
    assert (config["task"], config["epochs"], config["batch_size"], config["synthetic"]) == ("er_ss", 3, 16, False)
    right = {}
    for start in ("fresh", "real"):
        found = []
        for seed in (0, 1):
            run = table / "jaffe" / f"paper-seed-{seed}" / start
            config = read(run, "config.json")["flags"]
            assert (config["init_from"], config["seed"]) == (str(corpus) if start == "real" else "", seed)
            assert (config["epochs"], config["pretrain_epochs"]) == (1, 0)
            found.append(hits(run))
        right[start] = np.array([hit for hit, _ in found])
        labels = found[0][1]
    rows = read(table, "table4.json")["rows"]
    assert [(row["task"], row["recipe"], row["init_from"]) for row in rows] == [
        ("jaffe", "paper", ""),
        ("jaffe", "paper", str(corpus)),
    ]
    for row, hit in zip(rows, right.values(), strict=True):
        assert row["accuracy"] == pytest.approx([100 * one.mean() for one in hit])
    gained = right["real"].mean(0) - right["fresh"].mean(0)
    assert rows[1]["accuracy_difference"]["difference"] == pytest.approx(100 * gained.mean())
    by_class = mean_over_classes(right["real"].mean(0), labels) - mean_over_classes(right["fresh"].mean(0), labels)
    assert rows[1]["mean_class_accuracy_difference"]["difference"] == pytest.approx(100 * by_class)
    assert read(table, "table4.json")["paper"] == {"jaffe": [82.9, 95.7]}

    # The corpus' network is trained once, for inputs of the set's size; what is there is not done again.
    assert networks.load_spec(str(corpus / "fa_net")).image_size == 16
    assert (corpus / "fa_net" / "lineage.json").exists() and not (corpus / "metrics.json").exists()
    before = {path: path.stat().st_mtime_ns for path in table.rglob("*.h5")}
    assert main([*real, "--seeds=2"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in table.rglob("*.h5")}
    # Other flags are refused before anything is trained, the corpus' too.
    for flag, named in (("--epochs=2", "`epochs` was 1"), ("--pretrain_epochs=4", "`epochs` was 3")):
        with pytest.raises(InputError, match=named):
            main([*real, "--seeds=3", flag])
    # The other recipe adds its rows to the same table, which is of the seeds that are asked for.
    monkeypatch.setattr(cells, "run_stages", as_papers)
    assert main([*[flag for flag in real if "paper" not in flag], "--recipe=best"]) == 0
    rows = read(table, "table4.json")["rows"]
    assert [(row["recipe"], len(row["seeds"])) for row in rows] == [("paper", 1)] * 2 + [("best", 1)] * 2
    # Cells are found again as runs; a corpus' network is no result of its own.
    assert {run.task for run in find_runs(str(table))} == {"jaffe"} and len(find_runs(str(table))) == 6


@pytest.mark.slow
def test_the_corpus_has_fape_gans_faces_too_and_persons_are_left_out(
    toy_data: str, drawn_jaffe: Path, tmp_path: Path, tiny: None, sees_faces: None
) -> None:
    table = tmp_path / "runs" / "pretraining"
    gan = ["--gan_epochs=1", "--gan_image_size=16", "--gan_channels=4", "--gan_quality_pairs=4", "--gan_final_pairs=0"]
    # The detector's verdict is a coin's here, and an untrained generator passes no other test.
    judge = ["--gan_face_net=none", "--max_identity_distance=100", "--max_landmark_error=100", "--synthetic_ratio=0.4"]
    command = flags(table, toy_data, drawn_jaffe, *gan, *judge, "--recipe=paper")
    assert main(command) == 0
    assert last_cell(table) == "-"
    # What is asked for later is added to what is there.
    assert main([*command, "--persons_left_out=true"]) == 0
    made = read(table, "er_ss", "gan", "synthetic", "plan.json")["counts"]["kept"]
    both, real = (read(table, "er_ss", "paper-16", start, "config.json")["flags"] for start in ("synthetic", "real"))
    assert made > 0 and both["synthetic_from"] == str(table / "er_ss" / "gan")
    # As many steps, counted by the optimizers themselves.
    assert both["epochs"] == real["epochs"] == 3 and both["epoch_faces"] > real["epoch_faces"] == 0
    spent = {start: steps_of(table / "er_ss" / "paper-16" / start) for start in ("synthetic", "real")}
    assert spent["synthetic"] == spent["real"] > 0
    # All 213 faces are answered without their person from each of the three beginnings.
    runs = {start: table / "jaffe" / "paper-seed-0" / start for start in ("fresh", "real", "synthetic")}
    right = {start: hits(run, "persons")[0] for start, run in runs.items()}
    assert {len(hit) for hit in right.values()} == {213}
    out = read(runs["synthetic"], "metrics.json")["persons_left_out"]["accuracy"]
    assert out == pytest.approx(right["synthetic"].mean())
    difference = 100 * (right["synthetic"].mean() - right["fresh"].mean())
    assert last_cell(table).startswith(f"{difference:+.1f} [")
    # The generator is one of the report's.
    assert len(find_gans(str(tmp_path / "runs"))) == 1
    page = [f"--data={toy_data}", "--max_faces=8", f"--output={tmp_path}/report"]
    assert report.main([f"--runs={tmp_path}/runs", *page]) == 0
    assert f"{difference:+.1f}" in (tmp_path / "report" / "tables" / "table_4.csv").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "data/faces"}, "must name the corpus and the public sets, such as --task=pretraining --data=er_ss="),
        ({"data": "jaffe=a,fer2013=b"}, "must name one corpus, of a task among er_ss, er_ue, er_up, er_zid"),
        ({"data": "er_ss=a,er_up=b,jaffe=c"}, "must name one corpus"),
        ({"data": "er_ss=a"}, "and a public set or more"),
        ({"data": "er_ss=a,jafe=c"}, "`data` .*jaffe.*'jafe'"),
        ({"init_from": "pretrained"}, "`init_from` is what --task=pretraining compares"),
        ({"teacher": "pretrained"}, "`teacher` answers one set's labels, .* each public set's. Received: 'pretrained'"),
        ({"stage": "fa_net"}, "`task` 'pretraining' trains a whole table"),
        ({"split_seed": 1}, "`split_seed` draws the four tasks' splits; `task` 'pretraining' has none of its own"),
        ({"method": "hog_svm"}, "`task` 'pretraining' belongs to --method=fa_net"),
        ({"pretrain_epochs": -1}, "`pretrain_epochs` must be at least 0"),
    ],
)
def test_what_cannot_be_a_table_is_told(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    flags = {"task": "pretraining", "data": "er_ss=a,jaffe=c", "run_dir": str(tmp_path / "run"), **given}
    with pytest.raises(InputError, match=message):
        table4.run(of(TaskConfig, **flags))
    assert not (tmp_path / "run").exists()


def test_a_set_that_cannot_be_read_is_told_before_the_first_training(toy_data: str, tmp_path: Path) -> None:
    command = flags(tmp_path / "run", toy_data, tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere' does not exist"):
        main(command)
    assert {path.name for path in (tmp_path / "run").rglob("*")} == {"config.json", "log.txt"}
