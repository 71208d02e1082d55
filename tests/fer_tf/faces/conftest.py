"""One extractor for all tests of this folder: loading the networks takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor
from fer_tf.faces.frame import Limits
from fer_tf.faces.video import Decoder


@pytest.fixture(scope="session")
def extractor() -> Iterator[FaceExtractor]:
    made = FaceExtractor(ExtractorOptions(decode_timeout_s=60.0))
    yield made
    made.close()


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder(timeout_s=60.0, limits=Limits(), max_side=1920)
    yield made
    made.close()
