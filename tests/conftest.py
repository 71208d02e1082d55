"""Fixtures shared by all tests: the sample corpus, a drawn data folder, a small Fa-Net, exported and served."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fer_tf import start_up

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What commands ask of TensorFlow, which many tests import before a command could.
start_up.ask_for_onednn()
# Test processes side by side, and the programs that they start, would otherwise each take all cores.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
# A shell starts background jobs with Ctrl-C ignored, and programs inherit that; the tests that press Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of long tests first: short ones at the end keep all processes busy to the last."""
    items.sort(key=lambda item: "trainer" not in item.path.parts)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Says where long bytes differ; on CI pytest itself would lay them out line by line, megabytes for minutes."""
    if op != "==" or not (isinstance(left, bytes) and isinstance(right, bytes) and len(left) > 10_000):
        return None
    same = next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), len(right))
    return [f"{len(left):,} bytes == {len(right):,} bytes", f"they differ from byte {same:,} on"]


@pytest.fixture(scope="session")
def samples() -> Path:
    """The embedded corpus of real (rendered) clips."""
    return Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="session", autouse=True)
def public_records(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where public sets become records, for this process and those that it starts."""
    folder = str(tmp_path_factory.mktemp("public"))
    os.environ["FER_TF_PUBLIC"] = folder
    return folder


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder of drawn faces in the pipeline's layout; read only."""
    from tests.toy_data import write_toy_data

    return write_toy_data(str(tmp_path_factory.mktemp("toy_data")))


@pytest.fixture(scope="session")
def two_faces(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A picture of two people side by side, the second smaller."""
    import cv2
    import numpy as np

    photo = cv2.imread(str(samples / "photo.jpg"))
    small = cv2.resize(photo, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    canvas = np.full((photo.shape[0], photo.shape[1] + small.shape[1], 3), 90, np.uint8)
    canvas[:, : photo.shape[1]] = photo
    canvas[: small.shape[0], photo.shape[1] :] = small
    path = str(tmp_path_factory.mktemp("pictures") / "two.png")
    cv2.imwrite(path, canvas)
    return path


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder, read only, that all processes of the tests share: the first that asks for it makes what is in it."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / name, base / f"{name}.done"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def other_predictor(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A landmark predictor with a name of its own: `of_our_own.dat`."""
    from fer_tf.faces.landmarks import packaged_model

    path = tmp_path_factory.mktemp("predictors") / "of_our_own.dat"
    path.symlink_to(packaged_model())
    return str(path)


@pytest.fixture(scope="session")
def fa_net_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run folder's Fa-Net: untrained, with a temperature that keeps its probabilities away from 0 and 1."""
    from fer_tf.models import fa_net
    from tests.toy_data import EXPRESSIONS

    folder = str(tmp_path_factory.mktemp("run") / "fa_net")
    spec = fa_net.FaNetSpec(
        EXPRESSIONS,
        image_size=32,
        crop=0.9,
        aligned_crop=0.8,
        blur=0.6,
        temperature=2.0,
        task="er_ss",
        landmark_model="shape_predictor_68_face_landmarks (dlib 19.24)",
    )
    fa_net.save(folder, fa_net.build(spec), spec)
    return folder


@pytest.fixture(scope="session")
def exported(fa_net_dir: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder with version 1; read only."""
    from serving.export import export_saved_model

    folder = made_once(tmp_path_factory, "models", lambda made: export_saved_model(fa_net_dir, str(made / "fa_net")))
    return str(folder / "fa_net")


@pytest.fixture(scope="session")
def address(exported: str) -> Iterator[str]:
    """Where a server answers: the one that FER_TF_SERVER names, or an embedded one."""
    if os.environ.get("FER_TF_SERVER"):
        yield os.environ["FER_TF_SERVER"]
        return
    from tests.serving.conftest import serving

    with serving(model_base_path=exported) as server:
        yield server.address
