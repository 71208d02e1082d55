"""Fixtures shared by all tests: the sample corpus and a drawn data folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A shell starts background jobs with Ctrl-C ignored, and programs inherit that; the tests that press Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The embedded corpus of real (rendered) clips."""
    return Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder of drawn faces in the pipeline's layout; read only."""
    from tests.toy_data import write_toy_data

    return write_toy_data(str(tmp_path_factory.mktemp("toy_data")))
