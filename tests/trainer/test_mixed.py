"""A training on several sets at once: each set's scores stand apart, on the classes that it has."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fer_tf.config import of
from fer_tf.data.inputs import FaceSet, Part
from fer_tf.errors import InputError
from fer_tf.models import fa_net
from serving import portable
from tests.fer_tf.data.test_ferplus import write_folders
from tests.trainer.conftest import small_networks
from trainer.config import FaNetOptions, TaskConfig
from trainer.fa_net import keeps_last
from trainer.recipes import recipe_of
from trainer.task import main


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with small_networks():
        yield


@pytest.fixture(scope="module")
def run_dir(toy_data, tmp_path_factory):
    folders = write_folders(tmp_path_factory.mktemp("ferplus"))
    folder = tmp_path_factory.mktemp("mixed") / "run"
    flags = [f"--data=ferplus={folders},er_ss={toy_data}", "--held_out=0", "--mapping=er_ss.surprise=delight"]
    flags += ["--set_weights=ferplus=0.5", "--balance=softmax", "--framing=0.7,1.1"]
    size = ["--recipe=paper", "--epochs=1", "--batch_size=32", "--image_size=33", "--precision=float32"]
    assert main(["--task=mixed", f"--run_dir={folder}", *flags, *size]) == 0
    return folder


def test_each_sets_scores_stand_apart_among_its_own_classes(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    by_set = metrics["test_by_set"]
    assert metrics["spec"]["expressions"][-2:] == ["contempt", "delight"]
    assert by_set["er_ss"]["expressions"] == ["angry", "happy", "sad", "delight"] and by_set["er_ss"]["chance"] == 0.25
    assert by_set["er_ss"]["faces"] == 32 and np.sum(by_set["er_ss"]["confusion"]) == 32
    # Of its two test faces, one has a majority.
    assert by_set["ferplus"]["faces"] == 1 and by_set["ferplus"]["distribution"]["faces"] == 2
    assert metrics["test"]["faces"] == 33
    # A face is answered among its own set's classes: 32 among four, one among eight.
    assert metrics["test"]["chance"] == pytest.approx((32 / 4 + 1 / 8) / 33)
    # Also where copies are left out, of which er_ss has none.
    without = metrics["test_without_equal_copies"]
    of_ferplus = without["faces"] - 32
    assert without["chance"] == pytest.approx((32 / 4 + of_ferplus / 8) / (32 + of_ferplus))
    page = (run_dir / "evaluation.html").read_text()
    assert "test, FER+ alone" in page and "test, ER-SS alone" in page and "the mean over the classes is" in page
    assert any(note == "er_ss: surprise is delight" for note in metrics["notes"])
    # ER-SS's faces alone are in val, and would choose ferplus' epoch.
    assert "the last epoch was kept" in metrics["notes"] and metrics["kept"] == "last"
    assert "val does not ask what ferplus asks: the temperature is fitted on the other faces" in metrics["notes"]


@pytest.mark.parametrize(
    ("sets", "val", "kept"),
    [
        (("er_ss", "jaffe"), ["er_ss", "jaffe"], False),
        (("er_ss", "jaffe"), ["er_ss", "er_ss"], True),
        # Its validation part has none of what is rare.
        (("er_ue", "jaffe"), ["er_ue", "jaffe"], True),
    ],
)
def test_an_epoch_is_chosen_where_the_validation_part_asks_what_every_set_asks(sets, val, kept):
    def of_sets(names):
        unknown = np.full(len(names), "", object)
        return Part(np.array(names), np.zeros(len(names), int), *[unknown] * 3, np.full(len(names), -1), sets=names)

    parts = {"train": of_sets(np.array(sets)), "val": of_sets(np.array(val))}
    faces = FaceSet(("happy",), parts, "f", set_classes=dict.fromkeys(sets, (0,)))
    assert keeps_last(TaskConfig(task="mixed"), faces) == kept
    assert not keeps_last(of(TaskConfig, task="mixed", keep="best"), faces)


def test_the_portable_exports_are_compared_on_the_sets_that_were_mixed(run_dir):
    folder = str(run_dir / "fa_net")
    faces = portable.read_faces(folder, fa_net.load_spec(folder), "")
    assert faces.expressions[-1] == "delight" and len(faces.parts["test"]) == 34


def test_framing_and_mixing_are_checked_and_reach_the_recipe():
    recipe = recipe_of("fer2013", FaNetOptions(framing="0.75,1.0"))
    assert {phase.augmentation.framing for phase in recipe.phases()} == {(0.75, 1.0)}
    assert {phase.augmentation.framing for phase in recipe_of("fer2013", FaNetOptions()).phases()} == {None}
    for wrong in ("1", "0.9,0.8", "0.1,1", "a,b"):
        with pytest.raises(InputError, match=r"`framing` must be two shares from 0\.3 to 1\.3"):
            FaNetOptions(framing=wrong)
    with pytest.raises(InputError, match="`mapping` and `set_weights` are for --task=mixed"):
        TaskConfig(mapping="a.b=c")
