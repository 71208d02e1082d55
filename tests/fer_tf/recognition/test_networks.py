"""A run's weights, an export and a server give one answer for one face."""

from __future__ import annotations

import contextlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf import Recognizer, files
from fer_tf.data.tta import TTA
from fer_tf.errors import InputError
from fer_tf.recognition.answers import encode_face
from fer_tf.recognition.augmented import AugmentedNetwork
from fer_tf.recognition.networks import landmark_model_of, open_network, pinned
from fer_tf.recognition.server import Connection
from tests.serving.conftest import EXPRESSIONS, face_crops


def test_the_three_ways_of_asking_agree(fa_net_dir: str, exported: str, address: str) -> None:
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
    assert [network.picture_share for network in networks] == pytest.approx([0.8 / 0.9] * 4)
    assert [network.classify([]) for network in networks] == [[]] * 4
    for network in networks[:3]:
        model, spec = network.live()
        assert model.output_shape[-1] == len(spec.expressions)
    assert isinstance(networks[3], Connection)
    with pytest.raises(InputError, match="does not give its weights"):
        networks[3].live()
    for network in networks:
        network.close()


def test_several_ways_of_asking_give_their_mean_answer(fa_net_dir: str, address: str) -> None:
    crops = face_crops(3)
    with contextlib.ExitStack() as opened:
        one, two, both = (
            opened.enter_context(contextlib.closing(open_network(source)))
            for source in (fa_net_dir, address, f"{fa_net_dir}+{address}")
        )
        assert (both.expressions, both.landmark_model) == (one.expressions, one.landmark_model)
        assert both.picture_share == pytest.approx(one.picture_share)
        for mean, *parts in zip(*(network.classify(crops) for network in (both, one, two)), strict=True):
            expected = (parts[0].probabilities + parts[1].probabilities) / 2
            np.testing.assert_allclose(mean.probabilities, expected, atol=1e-6)
            # Weights do not say whether they see a face; the server does.
            assert mean.is_face == pytest.approx(parts[1].is_face) and parts[0].is_face is None
        for ask in (lambda: both.embed(crops), both.live):
            with pytest.raises(InputError, match="is one network"):
                ask()
    # What one of them cannot be is told of that one.
    with pytest.raises(InputError, match="Received: 'nothing/here'"):
        open_network(f"{fa_net_dir}+nothing/here")


def test_several_views_of_a_face_are_answered_by_their_mean_logits(fa_net_dir: str, address: str) -> None:
    from fer_tf.data.inputs import decode_image
    from fer_tf.data.preprocess import preprocess

    # Blocks, as a JPEG keeps them, so that the two ways of cutting differ little.
    blocks = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    faces = list(blocks.repeat(32, 1).repeat(32, 2))
    with contextlib.closing(open_network(fa_net_dir)) as network:
        model, spec = network.live()
        plain = network.classify(faces)
        asked = {name: AugmentedNetwork(network, TTA[name]) for name in ("flip", "views")}
        answers = {name: way.classify(faces) for name, way in asked.items()}
        for way in asked.values():
            assert (way.name, way.expressions) == (network.name, network.expressions)
            assert (way.landmark_model, way.picture_share) == (network.landmark_model, network.picture_share)
            np.testing.assert_array_equal(way.embed(faces), network.embed(faces))
            assert way.live() == (model, spec) and way.classify([]) == []
    for name, shares, atol in (("flip", (1.0,), 1e-5), ("views", (0.91, 1.0, 1.1), 0.02)):
        for face, answer in zip(faces, answers[name], strict=True):
            logits = []
            for share in shares:
                for view in (face, face[:, ::-1]):
                    picture = decode_image(encode_face(np.ascontiguousarray(view)))[None]
                    seen = preprocess(picture, spec.image_size, spec.channels, share * spec.served_crop)
                    logits.append(model(seen, training=False).numpy()[0] / spec.temperature)
            powers = np.exp(np.mean(logits, 0))
            np.testing.assert_allclose(answer.probabilities, powers / powers.sum(), atol=atol)
    # A mirror image has the same answer, which without it has another.
    with Recognizer.load(address, tta="flip") as recognize:
        mirrored = recognize.network.classify([np.ascontiguousarray(face[:, ::-1]) for face in faces])
    for there, here, alone in zip(mirrored, answers["flip"], plain, strict=True):
        np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-4)
        assert there.is_face is not None and there.version == 1
        assert np.abs(alone.probabilities - here.probabilities).max() > 1e-3


def test_of_a_picture_that_is_a_face_as_much_is_seen_as_of_a_training_picture_and_less_of_an_aligned_one(
    fa_net_dir: str,
    exported: str,
) -> None:
    from fer_tf.data.preprocess import preprocess
    from fer_tf.models import fa_net

    model, spec = fa_net.load(fa_net_dir)
    assert (spec.crop, spec.aligned_crop) == (0.9, 0.8)
    # Large blocks, so that the JPEG on the way changes little, in a ring that only the larger part has.
    picture = np.full((240, 240, 3), 255, np.uint8)
    blocks = np.random.default_rng(1).integers(0, 128, (8, 8, 3)).astype(np.uint8)
    picture[24:-24, 24:-24] = blocks.repeat(24, 0).repeat(24, 1)

    def direct(crop: float) -> np.ndarray:
        logits = model(preprocess(picture[None], spec.image_size, spec.channels, crop)) / spec.temperature
        return np.asarray(keras.ops.softmax(logits))[0]

    assert abs(direct(0.9) - direct(0.8)).max() > 0.02
    for source in (fa_net_dir, exported):
        with Recognizer.load(source, faces="given") as recognize:
            (row,) = recognize(picture).table().to_dict("records")
            np.testing.assert_allclose([row[name] for name in EXPRESSIONS], direct(0.9), atol=0.005)
            (answer,) = recognize.network.classify([picture])
            np.testing.assert_allclose(answer.probabilities, direct(0.8), atol=0.005)


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    for source in (str(tmp_path), "nothing/here", "http://localhost:8500"):
        with pytest.raises(InputError, match=r"`source` .*must be 'pretrained', 'ferplus', a run folder.*host:port"):
            open_network(source)


def test_a_network_lies_on_any_filesystem_that_tensorflow_knows(fa_net_dir: str, exported: str) -> None:
    crops = face_crops(2)
    for name, local in (("run/fa_net", fa_net_dir), ("export/7", f"{exported}/1")):
        for path in Path(local).rglob("*"):
            target = f"ram://networks/{name}/{path.relative_to(local)}"
            if path.is_file():
                tf.io.gfile.makedirs(target.rsplit("/", 1)[0])
                tf.io.gfile.copy(str(path), target)
    for source, local in (("ram://networks/run", fa_net_dir), ("ram://networks/export", exported)):
        with contextlib.closing(open_network(source)) as there, contextlib.closing(open_network(local)) as here:
            for answer, expected in zip(there.classify(crops), here.classify(crops), strict=True):
                np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
            assert landmark_model_of(source) == there.landmark_model == here.landmark_model
    joined = f"{fa_net_dir}+ram://networks/export"
    assert pinned(joined) == f"{fa_net_dir}+ram://networks/export/7" and pinned("pretrained") == "pretrained"
    with contextlib.closing(open_network(joined)) as both:
        assert len(both.classify(crops)) == 2 and landmark_model_of(joined) == both.landmark_model
    with pytest.raises(InputError, match="Received: 'ram://networks/nothing'"):
        open_network("ram://networks/nothing")
    with pytest.raises(InputError, match="no file system is known for 'nofs://b/m/"):
        open_network("pretrained+nofs://b/m")


def test_a_bucket_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(path: str) -> bool:
        raise OSError("the bucket does not answer")

    monkeypatch.setattr(files, "exists", silent)
    for ask in (open_network, pinned, landmark_model_of):
        with pytest.raises(InputError, match=r"--model\) 'gs://b/m' cannot be read: the bucket does not answer"):
            ask("gs://b/m")
