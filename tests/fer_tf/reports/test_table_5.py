"""Table 5: which runs stand in which row, which draws are compared, and what two rows may differ in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fer_tf.evaluation.run_scores import difference_of
from fer_tf.reports import table_5, tables
from fer_tf.reports.tables import Cell
from fer_tf.runs import find_runs
from tests.fer_tf.reports.test_runs_and_tables import add, write_run


def test_table_5_keeps_remedies_and_synthetic_faces_apart(tmp_path: Path) -> None:
    """What has both, or a remedy of another kind, is none of its rows, however good it is on the validation part."""
    made = {"synthetic": True, "synthetic_from": "gan"}
    write_run(tmp_path / "real", "er_ue", [1, 0, 0, 1], val=0.2, synthetic=False)
    write_run(tmp_path / "both", "er_ue", [1, 1, 0, 1], val=0.2, **made)
    write_run(tmp_path / "remedied", "er_ue", [1, 1, 1, 1], val=0.2, synthetic=False, balance="softmax")
    for number, flags in enumerate(({"balance": "softmax"}, {"balance": "softmax_real"}, {"mixup": 0.1})):
        write_run(tmp_path / f"mixed_{number}", "er_ue", [0, 0, 0, 0], val=0.9, **made, **flags)
    runs = find_runs(str(tmp_path))
    rows = ("Fa-Net", "FaPE-GAN+Fa-Net", table_5.REMEDY)
    found = [[run.name for run in table_5.runs_5(runs, row, "er_ue")] for row in rows]
    assert found == [["real"], ["both"], ["remedied"]]
    text = tables.to_markdown(table_5.table_5(runs))
    assert text.rstrip().splitlines()[-1].startswith("The paper's corpus has 54 expressions")


def draw_of(folder: Path, draw: int, right: list[int], **flags: object) -> None:
    """A run of one draw of the splits of corpus `c`, which has faces and a fingerprint of its own."""
    write_run(folder, "er_up", right, split_seed=draw, draws=3, data=f"{folder}/draws/{draw}", **flags)
    path = folder / "metrics.json"
    known = {"data_fingerprint": f"draw {draw}", "drawn_from": "c"}
    add(path, known)
    predictions = folder / "fa_net" / "predictions_test.npz"
    columns = dict(np.load(predictions))
    np.savez(predictions, **{**columns, "image_id": [f"draw {draw} {name}" for name in columns["image_id"]]})


def test_a_table_in_progress_compares_only_draws_that_both_rows_have(tmp_path: Path) -> None:
    for draw, right in ((1, [1, 1, 0, 0]), (2, [1, 1, 1, 1])):
        draw_of(tmp_path / f"real-{draw}", draw, right, synthetic=False)
    draw_of(tmp_path / "both-1", 1, [1, 1, 0, 0], synthetic=True, synthetic_from="gan")
    real, both = (table_5.runs_5(find_runs(str(tmp_path)), row, "er_up") for row in table_5.TABLE_5)
    assert [run.name for run in real] == ["real-1", "real-2"] and [run.name for run in both] == ["both-1"]
    # The same on the only common draw: draw 2, which is easier, says nothing.
    assert difference_of(real, both).value == 0 and difference_of(real[1:], both) is None
    draw_of(tmp_path / "both-2", 2, [1, 1, 1, 1], synthetic=True, synthetic_from="gan")
    runs = find_runs(str(tmp_path))
    assert difference_of(real, table_5.runs_5(runs, "FaPE-GAN+Fa-Net", "er_up")).value == 0
    # Their runs' folders differ, and the corpus is one; only what stands in a cell is named as a draw.
    draw_of(tmp_path / "left-3", 3, [1, 1, 1, 1], synthetic=True, synthetic_from="gan", recipe="best")
    assert "Mean over the draws 1, 2 of the splits" in table_5.notes_5(find_runs(str(tmp_path)))[0]


def test_trials_of_other_length_stand_in_no_row_beside_the_table(tmp_path: Path) -> None:
    made = {"synthetic": True, "synthetic_from": "gan"}
    for draw in (1, 2):
        for epochs, right in ((2, [0, 0, 0, 1]), (12, [1, 1, 1, 1])):
            known = {"epochs": epochs, "val": epochs / 12}
            draw_of(tmp_path / f"real-{draw}-{epochs}", draw, right, synthetic=False, epoch_faces=0, **known)
            # An epoch shows as many faces as the draw has real ones, which differs from draw to draw.
            draw_of(tmp_path / f"both-{draw}-{epochs}", draw, right, epoch_faces=4 + draw, **known, **made)
    runs = find_runs(str(tmp_path))
    for row, name in (("Fa-Net", "real"), ("FaPE-GAN+Fa-Net", "both")):
        assert [run.name for run in table_5.runs_5(runs, row, "er_up")] == [f"{name}-1-12", f"{name}-2-12"]


def test_table_5_compares_runs_that_differ_in_synthetic_faces_alone(tmp_path: Path) -> None:
    made = {"synthetic": True, "gan_epochs": 3, "synthetic_ratio": 0.4}
    write_run(tmp_path / "real", "er_ss", [1, 1, 0, 1], synthetic=False, epochs=3)
    write_run(tmp_path / "both", "er_ss", [1, 1, 1, 1], synthetic_from="gan", epochs=3, epoch_faces=9, **made)
    for name, steps in (("real", 100), ("both", 101)):
        path = tmp_path / name / "metrics.json"
        add(path, {"training": {"steps": steps}})

    def difference() -> Cell:
        rows = {row[0].text: row[1] for row in table_5.table_5(find_runs(str(tmp_path))).rows}
        return rows["difference, this system"]

    assert difference().text == "+25.0" and difference().note.endswith("same faces")
    add(path, {"training": {"steps": 190}})
    assert difference().note.endswith("same faces, 1.9 times the steps")
    write_run(tmp_path / "better", "er_ss", [1, 1, 1, 1], 0.9, epochs=60, init_from="pretrained", **made)
    write_run(tmp_path / "better" / "x", "er_ss", [1, 1, 1, 1])
    path = tmp_path / "better" / "metrics.json"
    add(path, {"synthetic_fingerprint": "s"})
    assert difference().text == "not compared: the rows differ in epochs, init_from"
    assert "difference" not in table_5.numbers_5(find_runs(str(tmp_path)))["er_ss"]
