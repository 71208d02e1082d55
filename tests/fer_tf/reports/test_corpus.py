"""The report reads a public set as it reads a data folder, as far as the set tells."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.data import public
from fer_tf.data.public.fer2013 import EXPRESSIONS as FER2013_EXPRESSIONS
from fer_tf.errors import InputError
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.reports import look, report
from fer_tf.reports.corpus import read_corpus
from tests.fer_tf.reports.test_runs_and_tables import write_run


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty training faces of each expression, and as many test faces as its position, at most two."""
    folder = tmp_path_factory.mktemp("fer2013")
    rng = np.random.default_rng(0)
    for label, name in enumerate(FER2013_EXPRESSIONS):
        for part, count in (("train", 20), ("validation", min(label, 2))):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                face = cv2.resize(rng.integers(0, 256, (6, 6), np.uint8), (48, 48))
                cv2.imwrite(str(folder / part / name / f"{number}.png"), face)
    return folder


@pytest.fixture(scope="module")
def run_dir(fer2013: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run on that set."""
    folder = tmp_path_factory.mktemp("runs") / "fer2013"
    write_run(folder, "fer2013", [1, 0, 1, 1])
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["data_fingerprint"] = read_corpus(str(fer2013)).fingerprint
    (folder / "metrics.json").write_text(json.dumps(metrics))
    spec = FaNetSpec(FER2013_EXPRESSIONS, image_size=32)
    fa_net.save(str(folder / "fa_net"), fa_net.build(spec), spec)
    return folder


def test_a_public_set_is_counted(fer2013: Path) -> None:
    corpus = read_corpus(str(fer2013))
    row = corpus.statistics["table_1"]
    assert corpus.name == "FER2013, as found"
    assert (row["expressions"], row["images"], row["subjects"], row["poses"]) == (7, 7 * 20 + 11, None, None)
    assert row["resolution"] == "48 × 48" and corpus.summary["poses"] == [""]
    assert corpus.statistics["images_per_expression"] == {
        name: 20 + min(label, 2) for label, name in enumerate(FER2013_EXPRESSIONS)
    }


def test_other_folders_are_no_corpus(tmp_path: Path) -> None:
    assert read_corpus(str(tmp_path / "absent")) is None
    assert read_corpus(str(tmp_path)) is None
    with pytest.raises(InputError, match=r"must hold fer2013\.csv, or a folder train"):
        read_corpus(str(tmp_path), ("fer2013",))
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="no `statistics`"):
        read_corpus(str(tmp_path))


def test_what_is_wrong_with_a_csv_is_told(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n9,1 2,Training\n")
    with pytest.raises(InputError, match=r"`emotion` must be one of .*line 2"):
        read_corpus(str(tmp_path / "fer2013.csv"))


def test_a_run_is_on_this_data_however_it_parts_it(fer2013: Path) -> None:
    corpus = read_corpus(str(fer2013))
    whole = public.read("fer2013", str(fer2013), 0.0).fingerprint
    assert corpus.fingerprint != whole == corpus.fingerprint_of({"task": "fer2013", "held_out": 0.0})
    assert corpus.fingerprint == corpus.fingerprint_of({"task": "fer2013"})


def test_the_report_of_a_public_set_shows_its_counts_and_where_its_run_looks(
    fer2013: Path, run_dir: Path, tmp_path: Path
) -> None:
    assert report.main([f"--runs={run_dir.parent}", f"--data={fer2013}", f"--output={tmp_path}"]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "FER2013, as found" in text
    assert "7 expressions, from 20 (angry) to 22 (fear)" in text
    assert "LayerCAM for the true expression" in text and "needs a run on this data" not in text
    assert text.count("this set has no landmarks") == 2


def test_look_averages_over_a_public_sets_expressions(fer2013: Path, run_dir: Path) -> None:
    config = look.LookConfig(run_dir=str(run_dir), data=str(fer2013), method="gradcam++", faces=2)
    figure = look.draw(config)["mean_gradcampp"]
    # `angry` has no test face.
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(FER2013_EXPRESSIONS[1:])
