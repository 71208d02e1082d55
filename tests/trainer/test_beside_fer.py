"""Another network is shown the very faces that a run's network was scored on, among the same expressions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

from benchmarks import beside_fer
from fer_tf.errors import InputError
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from tests.toy_data import EXPRESSIONS
from tests.trainer.conftest import small_networks
from trainer import across
from trainer.task import main


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """Little to trace, and two ways of cutting a face instead of twenty."""
    with small_networks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(across.scores, "__defaults__", ((0.8, 1.0),))
        patch.setattr(beside_fer, "SHARES", (0.8,))
        yield


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that takes and answers what the package's does."""
    faces = keras.Input((64, 64, 1))
    answers = keras.layers.Dense(7, "softmax")(keras.layers.Flatten()(keras.layers.AveragePooling2D(16)(faces)))
    path = str(tmp_path_factory.mktemp("fer") / "emotion_model.h5")
    keras.Model(faces, answers).save(path)
    return path


def scored(data: str, run_dir: Path, labels: tuple[str, ...], *more: str) -> tuple[list[str], dict[str, Any]]:
    """The flags of a run's evaluation on ER-SS by a network of these labels, and what it says."""
    spec = FaNetSpec(labels, image_size=16, task="kdef")
    fa_net.save(str(run_dir / "fa_net"), fa_net.build(spec, seed=1), spec)
    flags = [f"--run_dir={run_dir}", "--task=er_ss", f"--data={data}"]
    assert main(["--stage=evaluate", *flags, *more]) == 0
    return flags, read(run_dir)


def read(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "evaluations" / "er_ss.json").read_text())


def test_it_is_asked_as_the_network_was_with_its_mapping_and_its_views(
    toy_data: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [f"--mapping=er_ss.{EXPRESSIONS[0]}=-", "--tta=flip"]
    flags, alone = scored(toy_data, tmp_path / "run", EXPRESSIONS, *own)
    scores, asked = across.scores, []
    monkeypatch.setattr(across, "scores", lambda *args, **more: asked.append(args[-1]) or scores(*args, **more))
    assert beside_fer.main([f"--network={network}", *flags]) == 0
    both = read(tmp_path / "run")
    (found,) = both["beside"].values()
    assert set(alone["expressions"]) == set(EXPRESSIONS[1:]) and both["as_given"] == alone["as_given"]
    assert found["as_given"]["faces"] == alone["as_given"]["faces"] > 0
    assert set(found["as_given"]["by_class"]) == set(EXPRESSIONS[1:])
    assert {(config.fa_net.tta, config.mapping) for config in asked} == {("flip", own[0].split("=", 1)[1])}


def test_a_set_with_a_class_that_it_lacks_is_compared_without_it(toy_data: str, network: str, tmp_path: Path) -> None:
    last = EXPRESSIONS[-1]
    labels = (*EXPRESSIONS[:-1], "contempt")
    flags, _ = scored(toy_data, tmp_path / "run", labels, f"--mapping=er_ss.{last}=contempt")
    command, remedy = [f"--network={network}", *flags], f"--mapping=er_ss.{last}=-"
    with pytest.raises(InputError, match=f"er_ss was scored among .*contempt.* among what both have, with {remedy}"):
        beside_fer.main(command)
    assert "beside" not in read(tmp_path / "run")
    assert main(["--stage=evaluate", *flags, remedy]) == 0
    assert beside_fer.main(command) == 0 and "beside" in read(tmp_path / "run")


def test_what_was_scored_on_other_faces_is_told(toy_data: str, network: str, tmp_path: Path) -> None:
    flags, found = scored(toy_data, tmp_path / "run", EXPRESSIONS)
    path = tmp_path / "run" / "evaluations" / "er_ss.json"
    fewer = {**found["as_given"], "faces": found["as_given"]["faces"] - 1}
    for other, message in (
        ({"as_given": fewer}, "as given: .* faces were scored"),
        ({"data_fingerprint": "another"}, "is of data with fingerprint another"),
        ({"landmark_model": "own.dat"}, r"`landmark_model` was 'own\.dat' when er_ss was evaluated\. Received: ''"),
    ):
        path.write_text(json.dumps({**found, **other}))
        with pytest.raises(InputError, match=message):
            beside_fer.main([f"--network={network}", *flags])
