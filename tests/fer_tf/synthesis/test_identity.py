"""dlib's descriptor network, read from its own file, gives dlib's numbers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.synthesis.identity import IdentityNetwork, model_path


def test_the_descriptors_are_dlibs_to_a_thousandth(samples: Path) -> None:
    import dlib

    network, chips = dlib.face_recognition_model_v1(model_path()), []
    for person in ("P001", "P003"):
        frame = cv2.VideoCapture(str(samples / "take_1" / person / "happy" / "front.mp4")).read()[1][..., ::-1]
        # Any picture will do, faces and noise: the network is compared, not what it is for.
        chips.append(cv2.resize(np.ascontiguousarray(frame), (150, 150)))
    chips.append(np.random.default_rng(0).integers(0, 256, (150, 150, 3)).astype(np.uint8))
    expected = np.array([network.compute_face_descriptor(chip) for chip in chips])
    found = IdentityNetwork()(np.array(chips))
    assert found.shape == (3, 128)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.linalg.norm(expected[0] - expected[2]) > 0.3


def test_another_networks_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.dat"
    content = Path(model_path()).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"other\.dat (is damaged at byte|is not dlib's)"):
        IdentityNetwork(str(path))
    with pytest.raises(InputError, match=r"missing\.dat' are missing"):
        IdentityNetwork(str(tmp_path / "missing.dat"))
