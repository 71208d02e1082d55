"""Runs are found and pooled over seeds, and every table says where its numbers come from or what it would need."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from fer_tf import competitors
from fer_tf.errors import InputError
from fer_tf.evaluation.run_scores import accuracy_of, best, difference_of, differences, same_but_seed
from fer_tf.reports import competitor_tables, paper_tables, table_5, tables
from fer_tf.reports.tables import MISSING, OWN, PAPER
from fer_tf.run_folder import NetworkFolder
from fer_tf.runs import find_runs

EXPRESSIONS = ["angry", "happy"]


def write_run(folder: Path, task: str, right: list[int], val: float = 0.5, **flags: object) -> None:
    """A run folder whose test faces, one of each of two persons in turn, are right (1) or wrong (0)."""
    hits, labels = np.array(right), np.arange(len(right)) % 2
    predicted = np.where(hits, labels, 1 - labels)
    confusion = np.zeros((2, 2), int)
    np.add.at(confusion, (labels, predicted), 1)
    test = {
        "faces": len(right),
        "accuracy": float(hits.mean()),
        "accuracy_interval": [0.4, 0.9],
        "interval_over": "persons",
        "chance": 0.5,
        "confusion": confusion.tolist(),
        "expressions": EXPRESSIONS,
    }
    metrics = {
        "task": task,
        "finished": True,
        "data_fingerprint": "f",
        "notes": [],
        "val": {"accuracy": val},
        "test": test,
    }
    (folder / "fa_net").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    config = {
        "flags": {"task": task, "run_dir": str(folder), **flags},
        "command": ["trainer/task.py", f"--task={task}"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    np.savez(
        folder / "fa_net" / "predictions_test.npz",
        image_id=np.array([f"face {n}" for n in range(len(right))]),
        person=np.array([f"P{n % 4}" for n in range(len(right))]),
        pose=np.full(len(right), "front"),
        label=labels,
        logits=np.eye(2, dtype=np.float32)[predicted],
    )


def add(path: Path, more: dict[str, object]) -> None:
    """Adds to what a run's file says."""
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_runs_are_found_at_every_depth_and_checkpoints_are_not_searched(tmp_path: Path) -> None:
    write_run(tmp_path / "er_ss", "er_ss", [1, 1, 0, 1])
    write_run(tmp_path / "all" / "er_ue" / "seed-0" / "real", "er_ue", [1, 0, 0, 1])
    write_run(tmp_path / "er_ss" / "fa_net" / "checkpoints", "er_zid", [1, 1])
    assert [run.name for run in find_runs(str(tmp_path))] == ["all/er_ue/seed-0/real", "er_ss"]
    assert [run.name for run in find_runs(str(tmp_path / "er_ss"))] == ["er_ss"]
    assert find_runs(str(tmp_path / "none")) == []


def test_a_networks_own_folder_is_no_run_whatever_lies_in_it(tmp_path: Path) -> None:
    write_run(tmp_path / "all" / "er_ss" / "seed-0" / "real", "er_ss", [1, 1, 0, 1])
    generator = NetworkFolder(str(tmp_path / "all" / "er_ss" / "gan" / "fape_gan"))
    generator.write_metrics({"held_out": {"pairs": 8}})
    Path(generator.path, "spec.json").write_text("{}")
    write_run(Path(generator.path, "checkpoints"), "er_zid", [1, 1])
    assert [run.name for run in find_runs(str(tmp_path))] == ["all/er_ss/seed-0/real"]


def test_a_broken_metrics_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"run/metrics\.json cannot be read"):
        find_runs(str(tmp_path))


def test_seeds_are_pooled_face_by_face(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "er_ss", [1, 1, 1, 1, 0, 0, 0, 0], seed=0)
    write_run(tmp_path / "b", "er_ss", [1, 1, 1, 1, 1, 1, 1, 0], seed=1)
    write_run(tmp_path / "c", "er_ss", [0] * 8, seed=0, recipe="paper")
    runs = find_runs(str(tmp_path))
    assert [run.name for run in same_but_seed(runs)] == ["a", "b"]
    pooled = accuracy_of(runs[:2])
    assert pooled.value == pytest.approx(100 * (4 + 7) / 16)
    assert pooled.low <= pooled.value <= pooled.high
    assert (pooled.over, pooled.faces) == ("persons", 8)


def test_runs_on_other_synthetic_faces_are_not_pooled(tmp_path: Path) -> None:
    for name, made in (("a", "one"), ("b", "one"), ("c", "another")):
        write_run(tmp_path / name, "er_ss", [1, 1, 0, 1], synthetic_from=f"runs/{name}", seed=ord(name))
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        (tmp_path / name / "metrics.json").write_text(json.dumps({**metrics, "synthetic_fingerprint": made}))
    assert [run.name for run in same_but_seed(find_runs(str(tmp_path)))] == ["a", "b"]


def test_the_mean_of_runs_has_no_single_runs_interval(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), "er_ss", [1, 1, 0, 0], seed=seed)
        (tmp_path / str(seed) / "fa_net" / "predictions_test.npz").unlink()
    runs = find_runs(str(tmp_path))
    assert (accuracy_of(runs[:1]).low, accuracy_of(runs[:1]).high) == (40, 90)
    assert accuracy_of(runs).value == 50 and np.isnan(accuracy_of(runs).low)


def test_an_interval_that_cannot_be_had_is_said_in_words(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "er_ss", [1, 0], synthetic=False)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    metrics["test"]["accuracy_interval"] = None
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    table = table_5.table_5(find_runs(str(tmp_path)))
    cell = table.rows[3][1]
    assert (cell.text, cell.note) == ("50.0", "no interval: fewer than two persons; seed 0")
    shown = tables.to_csv(table) + tables.to_latex(table) + tables.to_markdown(table) + tables.numbers_to_csv([table])
    assert "nan" not in shown and "er_ss" in shown


def test_the_best_run_is_chosen_on_the_validation_part(tmp_path: Path) -> None:
    write_run(tmp_path / "lucky", "fer2013", [1, 1, 1, 1], val=0.5)
    write_run(tmp_path / "chosen", "fer2013", [1, 1, 1, 0], val=0.8)
    runs = find_runs(str(tmp_path))
    assert best(runs).name == "chosen"
    name, _, cell, *_ = competitor_tables.table_2(runs).rows[-1]
    assert (name.text, cell.text, cell.kind) == ("Fa-Net, recipe best", "75.0", OWN)
    assert cell.note == "[40.0, 90.0] seed 0"


def test_a_mean_of_trainings_has_no_training_time_and_its_own_command(tmp_path: Path) -> None:
    write_run(tmp_path / "mean", "fer2013", [1, 1, 1, 0])
    add(tmp_path / "mean" / "metrics.json", {"training": {"seconds": 0.0, "averaged": 2}})
    about = {"averaged": ["a", "b"], "command": ["trainer/average.py", "a", "b", "--run_dir=mean"]}
    add(tmp_path / "mean" / "config.json", about)
    (run,) = find_runs(str(tmp_path))
    row = competitor_tables.table_2([run]).rows[-1]
    assert row[2].text == "75.0" and row[competitor_tables.COLUMNS.index("training")].text == "-"
    assert run.command == "python -m trainer.average a b --run_dir=mean"


def test_tables_2_and_3_have_a_row_for_each_method_with_what_it_takes(tmp_path: Path) -> None:
    write_run(tmp_path / "bag", "fer2013", [1, 1, 0, 0], method="bag_of_words")
    write_run(tmp_path / "hog", "jaffe", [1, 1, 1, 0], method="hog_svm")
    write_run(tmp_path / "fa_net", "jaffe", [1, 1, 1, 1], recipe="paper")
    path = tmp_path / "hog" / "metrics.json"
    more = {
        "training": {"seconds": 190.0},
        "images_per_second": 41.2,
        "size_bytes": 3_300_000,
        "persons_left_out": {"faces": 4, "accuracy": 0.5, "accuracy_interval": None, "interval_over": "persons"},
    }
    add(path, more)
    runs = find_runs(str(tmp_path))
    second = {row[0].text: row for row in competitor_tables.table_2(runs).rows}
    assert [cell.text for cell in second["Bag of Words"][1:3]] == ["67.4", "50.0"]
    needs = "needs FER2013: python -m trainer.task --task=fer2013 --data=PATH --method=attention_cnn"
    assert second["Attention CNN"][2].text == needs
    assert {"GoogleNet", "VGG+SVM", "Fa-Net, recipe paper"} < second.keys()
    # A command that does not exist is asked of nobody.
    printed = {*competitor_tables.TABLE_2, *competitor_tables.TABLE_3} - {competitor_tables.FA_NET}
    assert printed <= set(competitors.NAMES)
    third = {row[0].text: row for row in competitor_tables.table_3(runs).rows}
    assert [cell.text for cell in third["HOG+SVM"][1:]] == ["-", "75.0", "75.0", "50.0", "3 min", "41", "3.3 MB"]
    assert third["HOG+SVM"][4].note == "no interval: fewer than two persons; seed 0"
    assert third["Fa-Net, recipe paper"][2].text == "100.0" and "Fa-Net, recipe best" in third
    # A competitor is no Fa-Net with or without pre-training.
    assert [row[4].text for row in paper_tables.table_4(runs).rows if row[0].text == "JAFFE"][:1] == ["100.0"]


def test_table_5_parts_runs_with_and_without_synthetic_faces(tmp_path: Path) -> None:
    write_run(tmp_path / "real", "er_up", [1, 0, 0, 0], synthetic=False)
    write_run(tmp_path / "gan", "er_up", [1, 1, 0, 0], synthetic=True, synthetic_from="runs/gan")
    write_run(tmp_path / "no_faces_yet", "er_zid", [1, 1, 1, 0], synthetic=True)
    table = table_5.table_5(find_runs(str(tmp_path)))
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["Fa-Net, this system"][2:] == ["25.0", "75.0"]
    assert rows["FaPE-GAN+Fa-Net, this system"][2] == "50.0"
    assert rows["FaPE-GAN+Fa-Net, this system"][3].startswith("needs a run: python -m trainer.task --task=er_zid")
    assert rows["Fa-Net, paper on F2ED"] == ["72.7", "27.3", "36.3", "6.7"]
    assert rows["difference, paper"] == ["+0.9", "+3.5", "+3.6", "+0.4"]
    assert rows["difference, this system"] == ["needs both rows", "needs both rows", "+25.0", "needs both rows"]


def test_table_5_has_the_mean_over_the_classes_beside_each_accuracy(tmp_path: Path) -> None:
    # Angry and happy in turn, of which the fifth is made happy too: two angry and four happy faces.
    for name, right, flags in (
        ("real", [1, 1, 0, 1, 0, 1], {"synthetic": False}),
        ("gan", [1, 1, 1, 0, 1, 1], {"synthetic_from": "runs/gan", "synthetic": True}),
    ):
        write_run(tmp_path / name, "er_ue", right, **flags)
        path = tmp_path / name / "fa_net" / "predictions_test.npz"
        kept = dict(np.load(path))
        kept["label"][4], kept["logits"][4] = 1, np.eye(2)[right[4]]
        np.savez(path, **kept)
    runs = find_runs(str(tmp_path))
    rows = {row[0].text: row[2] for row in table_5.table_5(runs).rows}
    # 1 of 2 and 3 of 4, then 2 of 2 and 3 of 4.
    assert rows["mean class: Fa-Net"].text == "62.5"
    assert rows["mean class: FaPE-GAN+Fa-Net"].text == "87.5"
    gained = rows["mean class: difference"]
    assert gained.text == "+25.0" and gained.accuracy.low <= 25 <= gained.accuracy.high
    assert gained.accuracy.over == "persons" and gained.note.startswith("[")
    assert accuracy_of(runs[:1], "mean_class_accuracy").value == pytest.approx(87.5)
    # Without a run there is nothing to take a mean of.
    assert not [row for row in table_5.table_5([]).rows if row[0].text.startswith("mean class")]


def test_a_difference_that_rounds_to_nothing_has_no_minus_sign(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "er_ss", [1] * 3000, synthetic=False)
    # One face of 3,000 is lost.
    write_run(tmp_path / "b", "er_ss", [0] + [1] * 2999, synthetic=True, synthetic_from="runs/gan")
    table = table_5.table_5(find_runs(str(tmp_path)))
    assert [row[1].text for row in table.rows if "difference" in row[0].text] == ["+0.9", "+0.0", "+0.0"]


def test_a_difference_is_paired_face_by_face(tmp_path: Path) -> None:
    # By hand: of 8 faces 3 become right and 1 becomes wrong, so +2 / 8.
    write_run(tmp_path / "a", "er_ss", [1, 1, 0, 0, 0, 1, 1, 0])
    write_run(tmp_path / "b", "er_ss", [1, 1, 1, 1, 1, 0, 1, 0])
    first, second = find_runs(str(tmp_path))
    found = difference_of([first], [second])
    assert found.value == pytest.approx(25.0)
    assert found.low <= found.value <= found.high and found.faces == 8
    assert difference_of([first], []) is None


def test_seeds_that_disagree_leave_the_difference_open(tmp_path: Path) -> None:
    # One seed wins three faces and the other loses three, so another training might give either.
    for name, right in (("a", [1, 1, 1, 1, 0, 0, 0, 0]), ("b", [1] * 7 + [0]), ("c", [1] + [0] * 7)):
        write_run(tmp_path / name, "er_ss", right)
    base, better, worse = find_runs(str(tmp_path))
    found = difference_of([base, base], [better, worse])
    assert found.value == pytest.approx(0.0)
    assert found.low < -25 and found.high > 25
    # Of the same mean, by one seed each: only persons are drawn.
    assert difference_of([base], [better]).low > 0


def test_table_4_parts_runs_by_pre_training(tmp_path: Path) -> None:
    write_run(tmp_path / "scratch", "fer2013", [1, 0, 0, 0], recipe="paper")
    write_run(tmp_path / "tuned", "fer2013", [1, 1, 0, 0], recipe="paper", init_from="runs/er_ss")
    rows = paper_tables.table_4(find_runs(str(tmp_path))).rows
    assert [row[3].text for row in rows] == ["62.3", "71.1", "+8.8", "82.9", "95.7"]
    assert [row[1].text for row in rows] == ["paper"] * 3 + ["-"] * 2
    assert [row[4].text for row in rows[:3]] == ["25.0", "50.0", "+25.0"] and rows[1][2].note == "runs/er_ss"
    assert [row[4].kind for row in rows[3:]] == [MISSING, MISSING]
    assert "--init_from" in rows[4][4].text


def test_table_4_has_each_recipe_and_beginning_and_compares_what_differs_in_it_alone(tmp_path: Path) -> None:
    for name, right, flags in (
        ("a", [1, 0, 0, 0], {"recipe": "best"}),
        ("b", [1, 1, 0, 0], {"recipe": "best", "init_from": "runs/x"}),
        ("c", [1, 1, 1, 0], {"recipe": "best", "init_from": "runs/y"}),
        ("d", [1, 1, 1, 1], {"recipe": "paper", "epochs": 5, "init_from": "runs/x"}),
        ("e", [1, 1, 0, 0], {"recipe": "paper", "epochs": 9}),
    ):
        write_run(tmp_path / name, "jaffe", right, **flags)
    runs = find_runs(str(tmp_path))
    rows = [[cell.text for cell in row[1:5]] for row in paper_tables.table_4(runs).rows[2:]]
    assert rows == [
        ["paper", "no", "82.9", "50.0"],
        # As it learned for fewer epochs, nothing tells what its beginning adds.
        ["paper", "yes", "95.7", "100.0"],
        ["best", "no", "82.9", "25.0"],
        ["best", "yes", "95.7", "50.0"],
        ["best", "difference", "+12.8", "+25.0"],
        ["best", "yes", "95.7", "75.0"],
        ["best", "difference", "+12.8", "+50.0"],
    ]
    found = paper_tables.numbers_4(runs)
    assert [row.get("accuracy_difference", {}).get("difference") for row in found] == [None, None, None, 25.0, 50.0]


def test_table_4_has_what_the_seeds_say_of_persons_that_were_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "jaffe", [1, 1, 1, 0], seed=0)
    write_run(tmp_path / "b", "jaffe", [1, 1, 0, 0], seed=1, persons_left_out=True)
    leave_out(tmp_path / "b", [1, 0, 0, 0, 1])
    row = paper_tables.table_4(find_runs(str(tmp_path))).rows[2]
    # Both seeds are one row's: the flag changes nothing of what it says of the test part.
    assert (row[4].text, row[4].note.endswith("seeds 0, 1")) == ("62.5", True)
    assert (row[6].text, row[6].kind) == ("40.0", OWN) and "[30.0, 50.0]" in row[6].note
    assert [cell.text for cell in paper_tables.table_4([]).rows[2][5:]] == ["-", "-"]
    # More seeds have a mean, and what pre-training adds is paired by face.
    leave_out(tmp_path / "a", [1, 1, 1, 0, 1])
    write_run(tmp_path / "c", "jaffe", [1, 1, 0, 0], init_from="runs/x")
    leave_out(tmp_path / "c", [1, 1, 1, 1, 1])
    rows = paper_tables.table_4(find_runs(str(tmp_path))).rows[2:]
    assert [row[6].text for row in rows] == ["60.0", "100.0", "+40.0"]
    assert rows[0][6].note.endswith("seeds 0, 1") and rows[2][6].note.endswith("same faces")


def leave_out(folder: Path, right: list[int]) -> None:
    """Adds what a run says of all faces, each without its person."""
    path, hits = folder / "metrics.json", np.array(right, bool)
    scores = {"faces": len(right), "accuracy": float(hits.mean()), "accuracy_interval": [0.3, 0.5]}
    scores |= {"interval_over": "persons", "mean_class_accuracy": 0.1}
    add(path, {"persons_left_out": scores})
    np.savez(
        folder / "fa_net" / "predictions_persons.npz",
        image_id=np.array([f"face {n}" for n in range(len(right))]),
        person=np.array([f"P{n % 4}" for n in range(len(right))]),
        pose=np.full(len(right), "front"),
        label=np.ones(len(right), np.int64),
        logits=np.eye(2, dtype=np.float32)[hits.astype(int)],
    )


def test_without_data_table_1_says_what_it_needs() -> None:
    table = paper_tables.table_1(None)
    assert [row[0].text for row in table.rows][-2:] == ["F2ED", "this corpus"]
    assert table.rows[-1][1].kind == MISSING
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_numbers_csv_has_interval_seed_and_command(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "er_ss", [1, 1, 1, 0], synthetic=False, seed=7)
    rows = list(csv.DictReader(io.StringIO(tables.numbers_to_csv([table_5.table_5(find_runs(str(tmp_path)))]))))
    assert {row["source"] for row in rows} == {PAPER, OWN}
    own, mean_class = [row for row in rows if row["source"] == OWN]
    assert (own["row"], own["column"], own["value"], own["seeds"]) == ("Fa-Net, this system", "ER-SS", "75.000", "7")
    assert (mean_class["row"], mean_class["value"]) == ("mean class: Fa-Net", "75.000")
    assert own["command"] == "python -m trainer.task --task=er_ss"


def test_latex_escapes_and_dashes_what_is_missing() -> None:
    text = tables.to_latex(paper_tables.table_4([]))
    assert "accuracy" not in text and "this system, \\%" in text
    assert text.count("--") >= 4 and "needs" not in text
    assert tables.escape_latex("50 % & a_b ± 1") == "50 \\% \\& a\\_b $\\pm$ 1"


def test_a_flag_that_was_not_there_yet_is_as_one_that_is_off(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "er_ss", [1, 1, 0, 1], seed=0)
    write_run(tmp_path / "b", "er_ss", [1, 0, 0, 1], seed=1, gan_augment=False, epoch_faces=0, teacher="")
    write_run(tmp_path / "c", "er_ss", [1, 0, 0, 1], seed=2, gan_augment=True)
    runs = find_runs(str(tmp_path))
    assert [run.name for run in same_but_seed(runs)] == ["a", "b"]
    assert not differences(runs[:1], runs[1:2], "init_from") and differences(runs[:1], runs[2:], "init_from")


def test_what_a_run_was_trained_on_and_scored_with_counts_and_not_what_lies_in_its_folder(tmp_path: Path) -> None:
    for name, more in (("real", {"synthetic_fingerprint": ""}), ("views", {"tta": "views"})):
        write_run(tmp_path / name, "er_ss", [1, 1, 0, 1], synthetic_from="gan", synthetic=True)
        path = tmp_path / name / "metrics.json"
        add(path, more)
    real, views = find_runs(str(tmp_path))
    assert not real.synthetic and views.synthetic
    assert differences([real], [views]) == ["tta"] and "--tta=views" in paper_tables.own_cell([views], "-").note


def test_a_mean_of_trainings_is_none_of_table_4s_rows(tmp_path: Path) -> None:
    write_run(tmp_path / "fresh", "jaffe", [1, 1, 0, 0], recipe="paper")
    write_run(tmp_path / "mean", "jaffe", [1, 1, 1, 1], 0.9, recipe="paper")
    path = tmp_path / "mean" / "config.json"
    add(path, {"averaged": ["runs/a", "runs/b"]})
    runs = find_runs(str(tmp_path))
    assert [row["accuracy"] for row in paper_tables.numbers_4(runs, ("jaffe",))] == [[50.0]]
    assert table_5.runs_5(runs, "Fa-Net", "jaffe") == runs[:1]


def test_an_interval_of_several_seeds_draws_them_too(tmp_path: Path) -> None:
    for seed, right in enumerate(([1, 0, 0, 0], [1, 1, 1, 1])):
        write_run(tmp_path / str(seed), "er_ss", right * 8, seed=seed)
    pooled = accuracy_of(find_runs(str(tmp_path)))
    # One person alone is always right, the others in one of two seeds: 62.5 %, and all from 25 to 100 over seeds.
    assert pooled.value == pytest.approx(62.5) and pooled.low < 30 and pooled.high > 95
