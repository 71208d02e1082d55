"""Fixtures shared by all tests: the sample corpus and a drawn data folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes side by side, and the programs that they start, would otherwise each take all cores.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
# A shell starts background jobs with Ctrl-C ignored, and programs inherit that; the tests that press Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of long tests first: short ones at the end keep all processes busy to the last."""
    items.sort(key=lambda item: "trainer" not in item.path.parts)


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


@pytest.fixture(scope="session")
def other_predictor(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A landmark predictor with a name of its own: `of_our_own.dat`."""
    from fer_tf.faces.landmarks import packaged_model

    path = tmp_path_factory.mktemp("predictors") / "of_our_own.dat"
    path.symlink_to(packaged_model())
    return str(path)
