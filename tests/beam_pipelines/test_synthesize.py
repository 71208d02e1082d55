"""Synthesis under Beam gives the very faces of the trainer's stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_pipelines import synthesize
from fer_tf.config import EXIT_INCOMPLETE, EXIT_OK, of, run_command, to_dict
from fer_tf.models import fape_gan
from fer_tf.synthesis import shards
from fer_tf.synthesis.judge import Eyes
from trainer import synthesize as stage
from trainer.config import TaskConfig


@pytest.fixture
def run_dir(toy_data: str, tmp_path: Path) -> Path:
    """A run folder with a finished FaPE-GAN and its flags."""
    spec = fape_gan.spec_of("paper", 16, 4)
    fape_gan.save_generator(str(tmp_path / "fape_gan"), fape_gan.generator(spec), spec)
    (tmp_path / "fape_gan" / "FINISHED").touch()
    config = of(TaskConfig, data=toy_data, run_dir=str(tmp_path), max_identity_distance=9.0, max_landmark_error=9.0)
    (tmp_path / "config.json").write_text(json.dumps({"flags": to_dict(config)}))
    return tmp_path


@pytest.mark.parametrize("mirror", [False, True])
def test_beam_and_the_trainer_make_the_same_files(
    toy_data: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch, mirror: bool
) -> None:
    written = json.loads((run_dir / "config.json").read_text())
    written["flags"]["mirror_targets"] = mirror
    (run_dir / "config.json").write_text(json.dumps(written))
    monkeypatch.setattr(shards, "SHARD_FACES", 10)
    monkeypatch.setattr(Eyes, "finds_face", lambda self, face: int(face.sum()) % 3 > 0)
    output = run_dir / "by_beam"
    assert synthesize.main([f"--run_dir={run_dir}", f"--output={output}", "--ratio=0.25"]) == EXIT_OK
    flags = json.loads((run_dir / "config.json").read_text())["flags"]
    stage.run(of(TaskConfig, **{**flags, "stage": "synthesize", "synthetic_ratio": 0.25}))
    names = sorted(path.name for path in (output / "records").iterdir())
    assert names == [f"faces-{shard:05d}-of-00003.tfrecord" for shard in range(3)]
    for name in [*(f"records/{name}" for name in names), "plan.json", "rejected.jsonl"]:
        assert (output / name).read_bytes() == (run_dir / "synthetic" / name).read_bytes(), name
    made = (output / "parts" / "00000-of-00003.jsonl").read_text().splitlines()
    assert any(json.loads(line)["mirrored"] for line in made) == mirror
    counts = json.loads((output / "plan.json").read_text())["counts"]
    assert counts["planned"] == 24 < counts["made"] == counts["kept"] + counts["rejected"]["no_face"]


def test_a_run_without_a_face_that_passes_is_incomplete_and_not_repeated(run_dir: Path) -> None:
    flags = [f"--run_dir={run_dir}", "--ratio=0.03"]
    assert synthesize.main(flags) == EXIT_INCOMPLETE
    plan = (run_dir / "synthetic" / "plan.json").stat().st_mtime_ns
    assert synthesize.main(flags) == EXIT_OK
    assert (run_dir / "synthetic" / "plan.json").stat().st_mtime_ns == plan


def test_relative_paths_mean_the_same_to_workers_in_another_folder(
    workers_elsewhere: Path, run_dir: Path, toy_data: str, other_predictor: str
) -> None:
    for name, path in (("run", run_dir), ("faces", toy_data), ("own.dat", other_predictor)):
        (workers_elsewhere / name).symlink_to(path)
    written = json.loads((run_dir / "config.json").read_text())
    written["flags"] |= {"data": "faces", "landmark_model": "own.dat"}
    (run_dir / "config.json").write_text(json.dumps(written))
    for flags, output in (([], run_dir / "synthetic"), (["--output=made", "--data=faces"], workers_elsewhere / "made")):
        assert synthesize.main(["--run_dir=run", "--ratio=0.03", *flags]) == EXIT_INCOMPLETE
        assert (output / "plan.json").exists()


def test_a_run_without_a_trained_gan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_command(synthesize.main, [f"--run_dir={tmp_path}"]) == 2
    assert "has no config.json; run trainer.task --stage=fape_gan first" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"flags": {"task": "er_ss", "data": "data/faces", "seed": 0}}')
    assert run_command(synthesize.main, [f"--run_dir={tmp_path}"]) == 2
    assert "is not trained to its end" in capsys.readouterr().err
