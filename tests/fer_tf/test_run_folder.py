"""A run folder says what is in it, and refuses what cannot be read in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_tf import files
from fer_tf.errors import InputError
from fer_tf.resources import PUBLISHED, resource
from fer_tf.run_folder import RunFolder, network_folder, network_folders, parts_of


@pytest.fixture(params=["local", "ram://"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run") if request.param == "local" else f"ram://run{tmp_path}")


def test_a_run_binds_its_flags_only_when_something_was_made_with_them(run: RunFolder) -> None:
    assert not run.has_begun and run.read_config() == {} and run.read_flags() == {}
    run.write_config({"flags": {"task": "er_ss"}})
    assert not run.has_begun and run.read_flags() == {"task": "er_ss"}
    run.fa_net.write_history([])
    assert not run.has_begun
    run.write_table("table5", {}, "")
    assert run.has_begun


def test_a_training_is_finished_when_it_says_so(run: RunFolder) -> None:
    assert not run.fa_net.is_finished and run.fa_net.read_history() is None
    run.fa_net.write_history({"epoch": 3})
    run.fa_net.finish("3 epochs")
    assert run.fa_net.is_finished and run.fa_net.read_history() == {"epoch": 3}
    assert not run.gan.is_finished


def test_predictions_come_back_as_they_were(run: RunFolder) -> None:
    assert run.read_predictions("test") is None
    arrays = {"image_id": np.array(["é", "b"]), "logits": np.eye(2, dtype=np.float32)}
    run.write_predictions("test", arrays)
    found = run.read_predictions("test")
    assert found.keys() == arrays.keys()
    assert all((found[name] == values).all() and found[name].dtype == values.dtype for name, values in arrays.items())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    with pytest.raises(InputError, match=r"has no config\.json; run trainer\.task first"):
        run.read_flags(needs="trainer.task")
    (tmp_path / "metrics.json").write_text('{"task": "er_ss"}')
    with pytest.raises(InputError, match=r"metrics\.json has no `task` or no `test`"):
        run.read_metrics()
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json cannot be read"):
        run.read_metrics()


def test_a_network_is_found_in_a_run_folder_by_its_own_folder_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "fa_net").mkdir()
    (tmp_path / "fa_net" / "spec.json").touch()
    inner = str(tmp_path / "fa_net")
    assert network_folder(str(tmp_path)) == network_folder(inner) == inner
    assert RunFolder.of_network(inner) == RunFolder(str(tmp_path))
    assert [network_folder(name) for name in PUBLISHED] == [resource(name) for name in PUBLISHED]


def test_several_networks_stand_with_a_plus_between_and_a_folder_with_a_plus_in_its_name_is_one(tmp_path: Path) -> None:
    for name in ("a", "b", "a+b"):
        (tmp_path / name / "fa_net").mkdir(parents=True)
        (tmp_path / name / "fa_net" / "spec.json").touch()
    a, b, both = (f"{tmp_path}/{name}" for name in ("a", "b", "a+b"))
    assert network_folders(f"pretrained+{a}") == [resource("pretrained"), f"{a}/fa_net"]
    assert network_folders(f"{a}+{b}") == [f"{a}/fa_net", f"{b}/fa_net"]
    assert network_folders(both) == [f"{both}/fa_net"] and network_folders(a) == [f"{a}/fa_net"]


def test_a_competitors_training_that_was_stopped_binds_its_flags(run: RunFolder) -> None:
    run.write_config({"flags": {"method": "vgg_svm"}})
    assert not run.has_begun
    files.write_text(files.join(run.competitor.backup, "latest.weights.h5"), "")
    assert run.has_begun


def test_a_plus_joins_networks_unless_a_folder_has_it_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a+b").mkdir()
    files.write_text("ram://parts/c+d/spec.json", "")
    (tmp_path / "e+f" / "fa_net").mkdir(parents=True)
    for whole in ("pretrained", str(tmp_path / "e+f"), str(tmp_path / "a+b"), "ram://parts/c+d", "localhost:8500", "+"):
        assert parts_of(whole) == [whole]
    assert parts_of("pretrained+ram://parts/e") == ["pretrained", "ram://parts/e"]
    assert parts_of("ram://parts/e+ram://parts/f") == ["ram://parts/e", "ram://parts/f"]
    assert parts_of("pretrained+localhost:8500+runs/a") == ["pretrained", "localhost:8500", "runs/a"]
