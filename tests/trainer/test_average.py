"""The mean of several trainings' weights is one Fa-Net, scored and published like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fer_tf.data.inputs import read_records
from fer_tf.errors import InputError
from fer_tf.evaluation import calibration
from fer_tf.models import fa_net as networks
from tests.fer_tf.data.test_ferplus import write_folders
from tests.trainer.conftest import SMALL, small_networks
from trainer import average, publish, task


def train(data: str, run_dir: Path, *more: str) -> Path:
    flags = [f"--data={data}", f"--run_dir={run_dir}", "--stage=fa_net", *SMALL, "--epochs=1", *more]
    assert task.main(flags) == 0
    return run_dir


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(scope="module")
def runs(toy_data: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A training and one that grew from it."""
    folder = tmp_path_factory.mktemp("average")
    first = train(toy_data, folder / "first", "--recipe=paper")
    return [first, train(toy_data, folder / "second", f"--init_from={first}", "--seed=1", "--recipe=paper")]


def test_the_weights_are_the_mean_and_the_statistics_their_own(toy_data: str, runs: list[Path], tmp_path: Path) -> None:
    assert average.main([*map(str, runs), f"--data={toy_data}", f"--run_dir={tmp_path / 'mean'}", "--flip=false"]) == 0
    (first, _), (second, _) = (networks.load(str(run / "fa_net")) for run in runs)
    mean, spec = networks.load(str(tmp_path / "mean" / "fa_net"))
    moving = 0
    for one, two, both in zip(first.weights, second.weights, mean.weights, strict=True):
        expected = (one.numpy() + two.numpy()) / 2
        if "moving" in both.path:
            moving += not np.allclose(both.numpy(), expected, atol=1e-4)
        else:
            np.testing.assert_allclose(both.numpy(), expected, atol=1e-6)
    assert moving
    metrics = json.loads((tmp_path / "mean" / "metrics.json").read_text())
    assert metrics["test"]["faces"] == 32 and metrics["notes"] == ["the weights are the mean of 2 networks'"]
    found = np.load(tmp_path / "mean" / "fa_net" / "predictions_val.npz")
    assert spec.temperature == pytest.approx(calibration.fit_temperature(found["logits"], found["label"]), rel=1e-3)
    page = (tmp_path / "mean" / "evaluation.html").read_text()
    assert metrics["recipe"] == "paper" and "recipe paper" in page
    assert "kept epoch" not in page

    publish.publish(publish.PublishConfig(str(tmp_path / "mean"), str(tmp_path / "published")))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    assert "`python -m trainer.average RUN_DIR RUN_DIR`: the mean of the weights of 2 trainings" in card

    with pytest.raises(InputError, match="has a network already"):
        average.main([*map(str, runs), f"--data={toy_data}", f"--run_dir={tmp_path / 'mean'}"])


def test_one_network_is_balanced_by_the_shares_of_its_classes(toy_data: str, runs: list[Path], tmp_path: Path) -> None:
    flags = [f"--data={toy_data}", f"--run_dir={tmp_path / 'balanced'}", "--balance_strength=0.5"]
    assert average.main([str(runs[0]), *flags]) == 0
    (before, _), (after, spec) = (networks.load(str(run / "fa_net")) for run in (runs[0], tmp_path / "balanced"))
    labels = read_records(toy_data, "er_ss").parts["train"].labels
    shares = np.bincount(labels, minlength=spec.num_classes) / len(labels)
    faces = np.random.default_rng(0).random((4, spec.image_size, spec.image_size, spec.channels), np.float32)
    expected = np.array(before(faces)) - 0.5 * np.log(shares)
    np.testing.assert_allclose(np.array(after(faces)), expected, atol=1e-5)
    publish.publish(publish.PublishConfig(str(tmp_path / "balanced"), str(tmp_path / "published")))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    assert "`python -m trainer.average RUN_DIR --balance_strength=0.5`: the weights of one training, balanced" in card
    assert "0.5 of the logarithm of the class shares was taken off the logits afterwards" in card


def test_several_sets_are_averaged_under_the_names_that_they_were_trained_under(toy_data: str, tmp_path: Path) -> None:
    (tmp_path / "ferplus").mkdir()
    data = f"ferplus={write_folders(tmp_path / 'ferplus')},er_ss={toy_data}"
    flags = ["--task=mixed", "--mapping=er_ss.surprise=delight", "--set_weights=er_ss=0.5", "--held_out=0"]
    flags += ["--keep=last", "--recipe=paper", "--image_size=33"]
    runs = [str(train(data, tmp_path / "first", *flags))]
    runs.append(str(train(data, tmp_path / "second", *flags, f"--init_from={runs[0]}", "--seed=1")))
    into = [f"--data={data}", "--held_out=0"]

    # Other labels than the networks': told before anything is written.
    mean = tmp_path / "mean"
    with pytest.raises(InputError, match=r"first predicts the labels .*'delight'\)\. Received data with the labels"):
        average.main([*runs, *into, f"--run_dir={mean}", "--mapping=er_ss.surprise=joy"])
    assert not mean.exists()

    assert average.main([*runs, *into, f"--run_dir={mean}"]) == 0
    config = json.loads((mean / "config.json").read_text())["flags"]
    assert (config["mapping"], config["set_weights"]) == ("er_ss.surprise=delight", "er_ss=0.5")
    spec = networks.load_spec(str(mean / "fa_net"))
    found = np.load(mean / "fa_net" / "predictions_val.npz")
    # A face is answered among its own set's classes, four of nine here, when the temperature is fitted too.
    assert (found["logits"] < -1e8).sum(axis=1).tolist() == [5] * len(found["label"])
    assert spec.temperature == pytest.approx(calibration.fit_temperature(found["logits"], found["label"]), rel=1e-3)


def test_a_mean_tells_the_recipes_of_its_sources_and_that_one_is_not_known(runs: list[Path]) -> None:
    assert [average.recipes_of(str(run)) for run in runs] == [("paper",)] * 2
    assert average.recipes_of(str(runs[1] / "fa_net")) == ("paper",)
    assert average.recipes_of("pretrained") == ("unknown",)


def test_networks_without_a_mean_are_refused(toy_data: str, runs: list[Path], tmp_path: Path) -> None:
    larger = train(toy_data, tmp_path / "larger", "--image_size=32", "--recipe=paper")
    with pytest.raises(InputError, match=r"'.*larger' has the image_size 32\. '.*first' has 16"):
        average.main([str(runs[0]), str(larger), f"--data={toy_data}", f"--run_dir={tmp_path / 'mean'}"])
    with pytest.raises(InputError, match="at least two run folders"):
        average.AverageConfig([str(runs[0])])
    assert not (tmp_path / "mean").exists()
