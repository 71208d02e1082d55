"""What is trained is what is served: every exported form answers like the live model."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import struct
import sys
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from fer_tf.config import EXIT_USAGE, run_command
from fer_tf.data.preprocess import preprocess
from fer_tf.errors import InputError
from fer_tf.models import fa_net
from fer_tf.recognition.answers import rounded
from fer_tf.recognition.networks import ExportedNetwork
from fer_tf.recognition.server import Connection
from serving import export, portable
from tests.serving.conftest import encode, face_crops


@pytest.fixture
def no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the graph out of an export, which takes twenty seconds: for what lies beside it."""
    monkeypatch.setattr("serving.signatures.save", lambda module, folder: os.makedirs(folder))


def live_probabilities(fa_net_dir: str, faces: list[bytes], precision: str = "float32") -> np.ndarray:
    model, spec = export.load_live(fa_net_dir, precision)
    images = np.stack([tf.io.decode_image(face, channels=3).numpy() for face in faces])
    prepared = preprocess(images, spec.image_size, spec.channels, spec.served_crop)
    logits = np.concatenate([model(prepared[start : start + 50], training=False) for start in range(0, len(faces), 50)])
    return tf.nn.softmax(logits / spec.temperature).numpy()


def test_live_model_savedmodel_and_server_give_500_faces_the_same_answers(
    fa_net_dir: str, exported: str, connection: Connection
) -> None:
    faces = [encode(crop) for crop in face_crops(500)]
    live = live_probabilities(fa_net_dir, faces)
    # Different faces get different answers, or equality would show nothing.
    assert live.std(0).max() > 0.01 and len(np.unique(live.round(4), axis=0)) > 100
    signature = tf.saved_model.load(os.path.join(exported, "1")).signatures["serving_default"]
    saved = np.concatenate(
        [signature(image_bytes=tf.constant(faces[start : start + 50]))["probabilities"] for start in range(0, 500, 50)]
    )
    served = np.stack([answer.probabilities for answer in connection.classify_encoded(faces)])
    assert np.abs(saved - live).max() < 1e-5
    assert np.abs(served - live).max() < 1e-5


def test_bfloat16_is_close_and_says_so(fa_net_dir: str, faces: list[bytes], tmp_path: Path) -> None:
    folder = export.export_saved_model(fa_net_dir, str(tmp_path), precision="bfloat16")
    outputs = tf.saved_model.load(folder).signatures["serving_default"](image_bytes=tf.constant(faces))
    difference = np.abs(outputs["probabilities"] - live_probabilities(fa_net_dir, faces)).max()
    assert 1e-6 < difference < 0.1
    assert json.loads((tmp_path / "1" / export.MODEL_FILE).read_text())["precision"] == "bfloat16"


def test_the_graph_holds_stock_operations_alone(exported: str) -> None:
    loaded = tf.saved_model.load(os.path.join(exported, "1"))
    operations = {
        node.op
        for function in loaded.signatures.values()
        for graph in [function.graph.as_graph_def()]
        for node in [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    }
    assert "DecodeImage" in operations
    assert not operations & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def test_a_face_crop_is_told_from_a_whole_photograph_and_from_noise(exported: str, samples: Path) -> None:
    from fer_tf.faces.detect import FaceDetector
    from fer_tf.faces.extractor import FaceExtractor

    photo = cv2.imread(str(samples / "photo.jpg"))[..., ::-1]
    extractor = FaceExtractor()
    (face,) = extractor.faces_in_image(np.ascontiguousarray(photo))
    extractor.close()
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    pictures = [face.image, photo, noise]
    signatures = tf.saved_model.load(os.path.join(exported, "1")).signatures
    encoded = tf.constant([encode(picture, ".png") for picture in pictures])
    seen = signatures["serving_default"](image_bytes=encoded)["is_face"].numpy()
    assert seen.dtype == np.float32 and seen.shape == (3,)
    assert seen[0] > 0.9 and (seen[1:] < 0.3).all()
    # The detector itself sees a face there, at the place that the crop was cut for, and the same one in pixels given.
    assert len(FaceDetector().verify(face.image[None], np.array([[0, 0, 256, 256]]))[0]) == 1
    pixels = signatures["predict_images"](images=tf.constant(face.image[None]))["is_face"].numpy()
    np.testing.assert_allclose(pixels, seen[:1], atol=1e-5)


def test_an_export_from_before_is_face_is_read_and_says_nothing_of_it(
    exported: str, faces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ExportedNetwork(os.path.join(exported, "1"))
    ask = old._ask

    def without(*asked: object) -> list[dict[str, np.ndarray]]:
        return [{name: value for name, value in outputs.items() if name != "is_face"} for outputs in ask(*asked)]

    monkeypatch.setattr(old, "_ask", without)
    answers = old.classify_encoded(faces[:2])
    assert [answer.is_face for answer in answers] == [None, None]
    assert not answers[0].doubtful and "is_face" not in rounded(answers[0])


def test_a_server_with_such_an_export_is_asked_alike(
    connection: Connection, faces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(0 <= answer.is_face <= 1 for answer in connection.classify_encoded(faces[:2]))
    call = connection._call

    def without(*asked: object) -> object:
        response = call(*asked)
        del response.outputs["is_face"]
        return response

    monkeypatch.setattr(connection, "_call", without)
    assert [answer.is_face for answer in connection.classify_encoded(faces[:2])] == [None, None]


def test_published_weights_bring_the_card_that_names_their_scores(
    fa_net_dir: str, tmp_path: Path, no_graph: None
) -> None:
    published = shutil.copytree(fa_net_dir, tmp_path / "published")
    card = Path(__file__).parent.parent.parent / "models/pretrained" / export.CARD_FILE
    shutil.copyfile(card, published / export.CARD_FILE)
    version = Path(export.export_saved_model(str(published), str(tmp_path / "models")))
    text = (version / export.CARD_FILE).read_text()
    assert "mean class accuracy" in text and "69.6 % (68.1 to 70.9)" in text and "not evaluated" not in text
    assert text.endswith("Exported as fa_net, version 1, in float32.\n")


def test_the_version_carries_its_labels_card_and_warm_up(exported: str) -> None:
    version = Path(exported) / "1"
    assert (version / export.LABELS_FILE).read_text().split() == ["angry", "happy", "sad", "surprise"]
    card = (version / export.CARD_FILE).read_text()
    assert "angry, happy, sad, surprise" in card and "dlib 19.24" in card
    facts = json.loads((version / export.MODEL_FILE).read_text())
    assert facts["spec"]["temperature"] == 2.0 and facts["versions"]["tensorflow"] == tf.__version__
    path = str(version / "assets.extra" / "tf_serving_warmup_requests")
    logs = [
        prediction_log_pb2.PredictionLog.FromString(raw) for raw in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]
    signatures = [log.predict_log.request.model_spec.signature_name for log in logs if log.HasField("predict_log")]
    assert set(signatures) == {"serving_default", "embed", "predict_images"}
    assert logs[-1].classify_log.request.model_spec.signature_name == "classify"


def test_labels_are_utf8_whatever_the_machines_own_coding_is(
    fa_net_dir: str, tmp_path: Path, no_graph: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("fröhlich", "müde", "悲", "ruhig")
    spec = dataclasses.replace(fa_net.load_spec(fa_net_dir), expressions=names)
    fa_net.save(str(tmp_path / "fa_net"), fa_net.build(spec), spec)

    def on_an_old_machine(path: str, mode: str = "r", encoding: str = "latin-1") -> object:
        return open(path, mode, encoding=encoding)

    monkeypatch.setattr(export, "open", on_an_old_machine, raising=False)
    version = Path(export.export_saved_model(str(tmp_path / "fa_net"), str(tmp_path / "models")))
    assert (version / export.LABELS_FILE).read_text(encoding="utf-8").split() == list(names)
    assert json.loads((version / export.MODEL_FILE).read_bytes())["spec"]["expressions"] == list(names)


def test_versions_count_up_and_none_is_overwritten_or_seen_half_written(
    fa_net_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_graph: None
) -> None:
    (tmp_path / "7").mkdir()
    assert export.export_saved_model(fa_net_dir, str(tmp_path)) == str(tmp_path / "8")
    with pytest.raises(InputError, match="`version` 8 exists"):
        export.export_saved_model(fa_net_dir, str(tmp_path), version=8)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("serving.warmup.write_warmup", fail)
    with pytest.raises(OSError, match="disk full"):
        export.export_saved_model(fa_net_dir, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8"]


def test_an_output_that_cannot_be_written_is_told_before_anything_is_loaded(
    fa_net_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(fa_net, "load", lambda folder: pytest.fail("loaded"))
    (tmp_path / "afile").touch()
    (tmp_path / "tflite").touch()
    for flags in ([], ["--format=tflite"]):
        for output in (tmp_path / "afile", "/proc/x"):
            argv = [f"--run_dir={fa_net_dir}", f"--output={output}", *flags]
            assert run_command(export.main, argv) == EXIT_USAGE
            assert f"error: `output` '{output}' cannot be written to (" in capsys.readouterr().err
    assert run_command(export.main, [f"--run_dir={fa_net_dir}", f"--output={tmp_path}", *flags]) == EXIT_USAGE
    assert "holds a file 'tflite' where the folder goes" in capsys.readouterr().err


def test_without_flags_the_newest_finished_run_is_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run"):
        export.find_fa_net("", str(tmp_path))
    for age, (name, finished) in enumerate([("unfinished", False), ("new", True), ("old", True)]):
        folder = tmp_path / name / "fa_net"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text("{}")
        if finished:
            (folder / "FINISHED").touch()
            os.utime(folder / "FINISHED", (1e9 - age, 1e9 - age))
    assert export.find_fa_net("", str(tmp_path)) == str(tmp_path / "new" / "fa_net")
    assert export.find_fa_net(str(tmp_path / "unfinished")) == str(tmp_path / "unfinished" / "fa_net")
    with pytest.raises(InputError, match="`run_dir`"):
        export.find_fa_net(str(tmp_path / "nothing"))


def test_the_graph_itself_refuses_a_huge_claim_before_unpacking(exported: str) -> None:
    signature = tf.saved_model.load(os.path.join(exported, "1")).signatures["serving_default"]
    small = face_crops(1)[0]
    # A real picture of 900 million pixels would take gigabytes; this one claims to be it.
    png = encode(small, ".png")
    jpeg = encode(small)
    frame = jpeg.index(b"\xff\xc0")
    claims = (
        png[:16] + struct.pack(">II", 30_000, 30_000) + png[24:],
        jpeg[: frame + 5] + struct.pack(">HH", 30_000, 30_000) + jpeg[frame + 9 :],
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for claim in claims:
        with pytest.raises(tf.errors.InvalidArgumentError, match="image too large"):
            signature(image_bytes=tf.constant([claim]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_the_graph_itself_refuses_unpacked_pictures_that_are_too_large(exported: str) -> None:
    signature = tf.saved_model.load(os.path.join(exported, "1")).signatures["predict_images"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="image too large"):
        signature(images=tf.zeros([1, 2049, 2048, 3], tf.uint8))
    assert signature(images=tf.zeros([1, 40, 50, 3], tf.uint8))["probabilities"].shape == (1, 4)


def test_tflite_and_onnx_answer_like_the_live_model(fa_net_dir: str, toy_data: str, tmp_path: Path) -> None:
    lines = []
    for kind in ("tflite", "onnx"):
        lines += portable.export(fa_net_dir, str(tmp_path), kind, toy_data, max_faces=40)
    assert len(lines) == 3 and all("on 32 test faces" in line for line in lines)
    results = {}
    for kind in ("tflite", "onnx"):
        results |= json.loads((tmp_path / kind / "fa_net.json").read_text())["compared_with_live"]
    assert results["fa_net.onnx"]["largest_difference"] < 5e-3 and results["fa_net.onnx"]["agreement"] == 1
    assert results["fa_net_float16.tflite"]["largest_difference"] < 5e-3
    assert results["fa_net_float16.tflite"]["agreement"] == 1
    assert results["fa_net_int8.tflite"]["largest_difference"] < 0.1
    assert results["fa_net_int8.tflite"]["agreement"] >= 0.9
    sizes = {name: (tmp_path / "tflite" / name).stat().st_size for name in os.listdir(tmp_path / "tflite")}
    assert sizes["fa_net_int8.tflite"] < 0.6 * sizes["fa_net_float16.tflite"]


def test_every_format_of_the_flag_is_made() -> None:
    assert set(get_args(export.Format)) == {"saved_model", *portable.FORMATS}


def test_without_data_given_the_runs_own_is_compared_on(fa_net_dir: str, toy_data: str, tmp_path: Path) -> None:
    shutil.copytree(fa_net_dir, tmp_path / "fa_net")
    (tmp_path / "config.json").write_text(json.dumps({"flags": {"task": "er_ss", "data": toy_data}}))
    folder = str(tmp_path / "fa_net")
    faces = portable.read_faces(folder, fa_net.load_spec(folder), "")
    assert faces.fingerprint == json.loads(Path(toy_data, "dataset.json").read_text())["fingerprint"]


def test_an_export_is_not_compared_on_faces_that_the_network_may_know(
    fa_net_dir: str, toy_data: str, tmp_path: Path
) -> None:
    spec = dataclasses.replace(fa_net.load_spec(fa_net_dir), data_fingerprint="an earlier split")
    fa_net.save(str(tmp_path / "fa_net"), fa_net.build(spec), spec)
    with pytest.raises(InputError, match=r"trained on data with fingerprint an earlier s\. .*may be test faces here"):
        list(portable.export(str(tmp_path / "fa_net"), str(tmp_path), "onnx", toy_data, 10))
    assert not (tmp_path / "onnx").exists()


def test_int8_without_data_is_refused_with_what_to_do(fa_net_dir: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"beam_pipelines\.build"):
        list(portable.export(fa_net_dir, str(tmp_path), "tflite", str(tmp_path), 10))


def test_an_export_that_cannot_be_compared_leaves_the_earlier_one(
    fa_net_dir: str, toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "fa_net.onnx").write_bytes(b"earlier")

    def fail(path: str) -> None:
        assert Path(path).read_bytes() == b"new"
        raise RuntimeError("cannot be run")

    monkeypatch.setattr(portable, "to_onnx", lambda forward: b"new")
    monkeypatch.setattr(portable, "onnx_runner", fail)
    with pytest.raises(RuntimeError, match="cannot be run"):
        list(portable.export(fa_net_dir, str(tmp_path), "onnx", toy_data, 4))
    assert os.listdir(tmp_path / "onnx") == ["fa_net.onnx"]
    assert (tmp_path / "onnx" / "fa_net.onnx").read_bytes() == b"earlier"


@pytest.mark.parametrize(("kind", "package"), [("onnx", "tf2onnx"), ("tflite", "ai_edge_litert")])
def test_a_missing_converter_names_what_to_install(
    kind: str, package: str, fa_net_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"`format` '{kind}' .*'{package}'.*pip install \.\[export\]"):
        list(portable.export(fa_net_dir, str(tmp_path), kind, str(tmp_path), 10))


@pytest.mark.parametrize("flags", [{"precision": "bfloat16"}, {"version": 3}])
def test_flags_of_a_saved_model_are_refused_for_other_formats(flags: dict) -> None:
    (name,) = flags
    assert export.ExportConfig(**flags)
    for kind in ("tflite", "onnx"):
        with pytest.raises(InputError, match=f"`{name}` belongs to --format=saved_model.*Received: "):
            export.ExportConfig(format=kind, **flags)


def test_a_version_that_no_request_can_name_is_refused() -> None:
    with pytest.raises(InputError, match=f"`version` must be from 0 to {2**63 - 1}. Received: {2**63}"):
        export.ExportConfig(version=2**63)
