"""A run's weights, an export and a server give one answer for one face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.recognition.networks import open_network
from fer_tf.recognition.server import Connection
from tests.serving.conftest import EXPRESSIONS, address, exported, fa_net_dir, face_crops  # noqa: F401


def test_the_three_ways_of_asking_agree(fa_net_dir: str, exported: str, address: str) -> None:  # noqa: F811
    crops = face_crops(35)  # More than a batch.
    crops[3] = crops[3][:200]  # A face that was given, of another size.
    networks = [open_network(source) for source in (fa_net_dir, str(Path(fa_net_dir).parent), exported, address)]
    answers = [network.classify(crops) for network in networks]
    for found in answers:
        assert {answer.expressions for answer in found} == {EXPRESSIONS}
        np.testing.assert_allclose(
            [answer.probabilities for answer in found],
            [answer.probabilities for answer in answers[0]],
            atol=1e-5,
        )
    features = [network.embed(crops) for network in networks]
    for found in features:
        assert found.shape == (35, 256)
        np.testing.assert_allclose(found, features[0], atol=1e-4)
    assert {network.landmark_model for network in networks} == {"shape_predictor_68_face_landmarks (dlib 19.24)"}
    assert {network.expressions for network in networks} == {EXPRESSIONS}
    assert [network.classify([]) for network in networks] == [[]] * 4
    for network in networks[:3]:
        model, spec = network.live()
        assert model.output_shape[-1] == len(spec.expressions)
    assert isinstance(networks[3], Connection)
    with pytest.raises(InputError, match="does not give its weights"):
        networks[3].live()
    for network in networks:
        network.close()


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    for source in (str(tmp_path), "nothing/here", "http://localhost:8500"):
        with pytest.raises(InputError, match=r"`source` must be 'pretrained', a run folder.*host:port"):
            open_network(source)
