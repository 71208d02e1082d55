"""Table 5 by one command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_tf.config import of, replace, to_dict
from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from fer_tf.evaluation.run_scores import is_choosing
from fer_tf.labels import TASKS
from fer_tf.reports import table_5
from fer_tf.runs import find_runs
from trainer import cells, runtime, table5
from trainer.config import TaskConfig
from trainer.task import main


def write_run(
    folder: Path, right: np.ndarray, order: np.ndarray, persons: int = 6, config: TaskConfig | None = None
) -> None:
    """A finished Fa-Net's predictions: face i of 12, two for each of six persons, right or wrong as told."""
    logits = np.zeros((len(right), 3), np.float32)
    logits[np.arange(len(right)), np.where(right, 1, 2)] = 1
    (folder / "fa_net").mkdir(parents=True)
    np.savez(
        folder / "fa_net" / "predictions_test.npz",
        image_id=np.array([f"face{i:02d}" for i in range(len(right))])[order],
        person=np.array([f"P{i * persons // len(right)}" for i in range(len(right))])[order],
        label=np.ones(len(right), np.int64),
        logits=logits[order],
    )
    task, seed = folder.parts[-3], int(folder.parts[-2].rsplit("seed-", 1)[1])
    test = {"faces": len(right), "accuracy": float(right.mean()), "accuracy_interval": None, "interval_over": "persons"}
    # All faces are of one class.
    test["mean_class_accuracy"] = test["accuracy"]
    if persons > 1:
        test["accuracy_interval"] = [0.25, 0.75]
    metrics = {"task": task, "finished": True, "test": test | {"chance": 1 / 3}}
    if config:
        metrics["data_fingerprint"] = DataFolder(config.data).dataset["fingerprint"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    flags = (
        to_dict(config)
        if config
        else {"task": task, "seed": seed, "synthetic": folder.name == "synthetic", "synthetic_from": "gan"}
    )
    (folder / "config.json").write_text(json.dumps({"flags": flags}))


@pytest.fixture
def half_done(tmp_path: Path) -> TaskConfig:
    """ER-UE is finished for two seeds, ER-UP has one row."""
    base = np.arange(12) < 6
    better = np.arange(12) < 9
    turned = np.arange(12)[::-1]
    for seed in (0, 1):
        write_run(tmp_path / "er_ue" / f"seed-{seed}" / "real", base, np.arange(12))
        # The faces come in another order: they are paired by their ids.
        write_run(tmp_path / "er_ue" / f"seed-{seed}" / "synthetic", better, turned)
    write_run(tmp_path / "er_up" / "seed-0" / "real", base, np.arange(12))
    return of(TaskConfig, task="all", run_dir=str(tmp_path), seeds=2, draws=0)


def test_the_difference_is_paired_by_face_and_its_interval_drawn_by_person(half_done: TaskConfig) -> None:
    found = table_5.numbers_5(find_runs(half_done.run.run_dir))
    both = [50.0, 50.0]
    expected = {"accuracy": both, "mean_class_accuracy": both, "seeds": [0, 1], "draws": [-1, -1]}
    assert found["er_ue"]["Fa-Net"] == expected
    difference = found["er_ue"]["difference"]
    assert found["er_ue"]["mean_class_difference"] == difference
    assert difference["difference"] == pytest.approx(25.0)
    # Faces 6, 7 and 8 turned right: one person wholly, one by half, four unchanged.
    assert difference["low"] == pytest.approx(0.0)
    assert 40 < difference["high"] < 80
    assert "difference" not in found["er_up"]
    assert found["er_ss"] == {}


def test_the_text_is_the_reports_table(half_done: TaskConfig) -> None:
    lines = table5._write(half_done).splitlines()
    assert lines[0] == "| accuracy, % | ER-SS | ER-UE | ER-UP | ER-ZID |"
    assert lines[2] == "| Fa-Net, paper on F2ED | 72.7 | 27.3 | 36.3 | 6.7 |"
    assert lines[3] == "| FaPE-GAN+Fa-Net, paper on F2ED | 73.6 | 30.8 | 39.9 | 7.1 |"
    own, both, difference = lines[5:8]
    assert (
        own.startswith("| Fa-Net, this system | - | 50.0 [") and "seeds 0, 1 | 50.0 [" in own and own.endswith("| - |")
    )
    assert both.startswith("| FaPE-GAN+Fa-Net, this system | - | 75.0 [") and both.endswith("| - | - |")
    assert "| +25.0 [+0.0, " in difference and "nan" not in "".join(lines)
    kept = json.loads(Path(half_done.run.run_dir, "table5.json").read_text())
    assert kept["paper"]["Fa-Net"]["er_zid"] == 6.7 and kept["tasks"]["er_up"]["Fa-Net"]["seeds"] == [0]


def test_one_persons_difference_has_no_interval_and_says_so(tmp_path: Path) -> None:
    for row, right in (("real", 6), ("synthetic", 9)):
        write_run(tmp_path / "er_ss" / "seed-0" / row, np.arange(12) < right, np.arange(12), persons=1)
    config = of(TaskConfig, task="all", run_dir=str(tmp_path), seeds=1, draws=0)
    assert "| +25.0 no interval: fewer than two persons; same faces |" in table5._write(config)
    found = json.loads((tmp_path / "table5.json").read_text())["tasks"]["er_ss"]["difference"]
    assert found == {"difference": 25.0, "low": None, "high": None, "p": None}


def test_both_rows_take_as_many_steps(toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = of(TaskConfig, task="all", data=toy_data, run_dir=str(tmp_path), epochs=30)
    real = table5.cell_config(config, config, table5.Cell("er_ue", -1, 4, "Fa-Net"))
    assert (real.fa_net.epochs, real.fa_net.synthetic, real.run.seed) == (30, False, 4)
    read = cells.fa_net.read_faces

    def with_twice_as_many(asked: TaskConfig) -> Any:
        # No face was made for this test.
        faces = read(replace(asked, synthetic=False))
        if asked.fa_net.synthetic:
            assert asked.fa_net.synthetic_from == f"{tmp_path}/er_ue/gan"
            both = np.arange(2 * len(faces.parts["train"])) % len(faces.parts["train"])
            faces.parts["train"] = faces.parts["train"].rows(both)
        return faces

    monkeypatch.setattr(cells.fa_net, "read_faces", with_twice_as_many)
    both = table5.cell_config(config, config, table5.Cell("er_ue", -1, 4, "FaPE-GAN+Fa-Net"))
    assert (both.fa_net.epochs, both.fa_net.epoch_faces) == (30, len(read(real).parts["train"]))


def test_the_command_trains_all_four_tasks_and_is_resumable(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The order and the folders of the runs; the stages themselves are replaced, they have tests of their own."""
    calls: list[tuple[str, str, bool]] = []

    def run_stages(config: TaskConfig, stages: tuple[str, ...]) -> None:
        calls.append((config.run.run_dir.removeprefix(f"{tmp_path}/"), stages[0], config.fa_net.synthetic))
        if stages[-1] == "evaluate" and not Path(config.run.run_dir, "metrics.json").exists():
            if len(calls) == 7:
                raise KeyboardInterrupt
            write_run(Path(config.run.run_dir), np.arange(12) < 6, np.arange(12))

    monkeypatch.setattr(cells, "run_stages", run_stages)
    monkeypatch.setattr(cells, "with_equal_steps", lambda config: config)
    config = of(TaskConfig, task="all", data=toy_data, run_dir=str(tmp_path), seeds=1, draws=0)
    with pytest.raises(KeyboardInterrupt):
        table5.run(config)
    assert calls[:2] == [("er_ss/seed-0/real", "fa_net", False), ("er_ss/gan", "fape_gan", True)]
    # What was finished when it stopped is in the table already.
    assert json.loads((tmp_path / "table5.json").read_text())["tasks"]["er_ss"]["Fa-Net"]["accuracy"] == [50.0]
    table5.run(config)
    assert capsys.readouterr().out.count("50.0 [25.0, 75.0] seed 0") == 2 * len(TASKS)


def test_the_plain_remedy_is_chosen_on_one_draw_and_all_rows_are_reported_on_others(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    score = {"real": 6, "synthetic": 10, "oversampling": 8, "balanced_softmax": 9, "mixup": 7}
    trained: list[TaskConfig] = []

    def run_stages(config: TaskConfig, stages: tuple[str, ...]) -> None:
        folder = Path(config.run.run_dir)
        if stages[-1] == "evaluate" and not (folder / "metrics.json").exists():
            trained.append(config)
            write_run(folder, np.arange(12) < score[folder.name], np.arange(12), config=config)

    monkeypatch.setattr(cells, "run_stages", run_stages)
    monkeypatch.setattr(cells, "with_equal_steps", lambda config: config)
    config = of(TaskConfig, task="all", data=toy_data, run_dir=str(tmp_path))
    table5.run(config)
    text = capsys.readouterr().out
    # Recipe best mirrors by itself; on the reported draws the chosen remedy alone is trained beside the two rows.
    assert len(trained) == len(TASKS) * (4 + 3 * 3)
    assert "Table 5: 52 of 52 trainings are done; about 0.0 hours left" in text
    on = {(flags.split_seed, flags.run.draws, Path(flags.run.run_dir).name) for flags in trained}
    assert {row for draw, _, row in on if draw == 0} == {"real", "oversampling", "balanced_softmax", "mixup"}
    assert {(draw, row) for draw, reported, row in on if reported} == {
        (draw, row) for draw in (1, 2, 3) for row in ("real", "synthetic", "balanced_softmax")
    }
    assert {flags.fa_net.balance for flags in trained if Path(flags.run.run_dir).name == "balanced_softmax"} == {
        "softmax"
    }
    # Each draw has data of its own, and the synthetic row the faces of its draw's FaPE-GAN.
    assert {Path(flags.data).name for flags in trained if flags.split_seed == 2} == {"2"}
    borrowed = {flags.fa_net.synthetic_from for flags in trained if flags.fa_net.synthetic and flags.split_seed == 2}
    assert borrowed == {f"{tmp_path}/{task}/draw-2/gan" for task in TASKS}
    kept = json.loads((tmp_path / "table5.json").read_text())
    assert kept["chosen_on"] == [0] and set(kept["remedies"].values()) == {"balanced softmax"}
    entry = kept["tasks"]["er_up"]
    assert entry["FaPE-GAN+Fa-Net"]["draws"] == [1, 2, 3] and entry["difference"]["difference"] == pytest.approx(
        100 / 3
    )
    assert entry["beside_remedy"]["difference"] == pytest.approx(100 / 12)
    notes = str(table_5.notes_5(find_runs(config.run.run_dir)))
    assert "Draw 0 chose the plain remedy (balanced softmax for ER-SS" in notes
    # One face of one of six persons: no proof.
    assert "not shown to add more than the plain remedy on ER-SS, ER-UE" in notes
    # A second call finds all done.
    trained.clear()
    table5.run(config)
    assert trained == []


def test_what_was_scored_over_other_views_is_scored_anew(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked: list[str] = []

    def run(table: TaskConfig, cell: TaskConfig, stages: tuple[str, ...]) -> None:
        if stages[-1] == "evaluate":
            asked.append(cell.fa_net.tta)
            shutil.rmtree(cell.run.run_dir, ignore_errors=True)
            write_run(Path(cell.run.run_dir), np.arange(12) < 6, np.arange(12))
            cell.folder.write_metrics({**cell.folder.read_metrics(), "tta": cell.fa_net.tta})

    monkeypatch.setattr(cells, "run", run)
    monkeypatch.setattr(cells, "with_equal_steps", lambda config: config)
    for tta, again in (("none", 2 * len(TASKS)), ("none", 0), ("flip", 2 * len(TASKS)), ("flip", 0)):
        asked.clear()
        table5.run(of(TaskConfig, task="all", data=toy_data, run_dir=str(tmp_path), seeds=1, draws=0, tta=tta))
        assert asked == [tta] * again
        assert "Table 5: 9 of 8" not in capsys.readouterr().out


def test_a_table_of_the_datas_own_split_is_not_mixed_with_one_over_draws(toy_data: str, tmp_path: Path) -> None:
    write_run(tmp_path / "er_ss" / "seed-0" / "real", np.arange(12) < 6, np.arange(12))
    with pytest.raises(InputError, match=r"holds a table of the data's own split\. Give --draws=0"):
        table5.run(of(TaskConfig, task="all", data=toy_data, run_dir=str(tmp_path)))


def test_each_cell_has_a_log_folder_of_its_own(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folders: dict[str, str] = {}
    monkeypatch.setattr(
        cells,
        "run_stages",
        lambda cell, _: folders.update(
            {cell.folder.path.removeprefix(f"{tmp_path}/"): runtime.tensorboard_dir(cell.folder)}
        ),
    )
    monkeypatch.setattr(cells, "with_equal_steps", lambda config: config)
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", "gs://bucket/logs")
    config = of(TaskConfig, task="all", data=toy_data, run_dir=f"{tmp_path}/", seeds=1, draws=0)
    table5.run(config)
    assert len(folders) == 3 * len(TASKS)
    assert folders == {cell: f"gs://bucket/logs/{cell}" for cell in folders}
    assert runtime.tensorboard_dir(config.folder) == "gs://bucket/logs"


def test_a_training_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(config: TaskConfig) -> None:
        raise runtime.TrainingFailed("the loss became nan")

    monkeypatch.setattr(table5, "run", fail)
    assert main(["--task=all", f"--run_dir={tmp_path}"]) == 1
    assert capsys.readouterr().err == "error: the loss became nan\n"


def test_a_table_of_one_draw_without_a_choice_is_reported(tmp_path: Path) -> None:
    config = of(TaskConfig, task="all", run_dir=str(tmp_path), seeds=1, draws=0, split_seed=2)
    assert {cell.draw for cell in table5.reported_cells(config, {})} == {2}
    cell = table5.Cell("er_ue", 2, 0, "Fa-Net")
    own = table5.cell_config(config, config, cell)
    write_run(tmp_path / cell.folder, np.arange(12) < 6, np.arange(12))
    (tmp_path / cell.folder / "config.json").write_text(json.dumps({"flags": to_dict(own)}))
    (run,) = find_runs(str(tmp_path))
    assert not is_choosing(run) and table_5.runs_5([run], "Fa-Net", "er_ue") == [run]
    chooses = table5.cell_config(config, replace(config, draws=3), table5.Cell("er_ue", 2, 0, "Fa-Net", chooses=True))
    assert chooses.run.draws == 0


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"mirror": True}, "mirror"),
        ({"balance": "softmax_real"}, "balance"),
        ({"mixup": 0.1}, "mixup"),
        ({"synthetic": False}, "synthetic"),
        ({"synthetic_from": "runs/gan"}, "synthetic_from"),
        ({"synthetic_ratio": 0.0}, "synthetic_ratio"),
    ],
)
def test_what_the_rows_differ_in_is_no_flag_of_the_whole_table(tmp_path: Path, flags: dict, field: str) -> None:
    config = of(TaskConfig, task="all", run_dir=str(tmp_path / "table"), **flags)
    with pytest.raises(InputError, match=f"`{field}`.*Table 5|Table 5.*`{field}`"):
        table5.run(config)
    assert not (tmp_path / "table").exists()


def test_an_epoch_of_so_many_faces_is_one_in_both_rows(toy_data: str, tmp_path: Path) -> None:
    config = of(TaskConfig, task="er_ss", data=toy_data, run_dir=str(tmp_path), epoch_faces=32)
    assert cells.with_equal_steps(config).fa_net.epoch_faces == config.fa_net.epoch_faces == 32
