"""The protocol's contract: holds for the embedded server and, with FER_TF_SERVER, for a real TensorFlow Serving."""

from __future__ import annotations

import struct

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    regression_pb2,
)

from fer_tf.recognition.server import Connection
from tests.serving.conftest import encode, face_crops

REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def predict_request(images: list[bytes], signature: str = "", **spec: str) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.get("name", "fa_net")
    request.model_spec.signature_name = signature
    values = np.empty(len(images), object)
    values[:] = images
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(values, tf.string, [len(images)]))
    return request


def code_of(call: object, request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60)
    return caught.value.code(), caught.value.details()


def test_predict_gives_probabilities_names_and_the_best_labels(connection: Connection, faces: list[bytes]) -> None:
    response = connection.stub.Predict(predict_request(faces[:3]), timeout=60)
    outputs = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
    assert set(outputs) == {
        "probabilities",
        "class_names",
        "labels",
        "scores",
        "landmark_model",
        "is_face",
        "picture_share",
    }
    np.testing.assert_allclose(outputs["probabilities"].sum(1), 1, atol=1e-5)
    best = outputs["probabilities"].argmax(1)
    assert [row[index] for row, index in zip(outputs["class_names"], best, strict=True)] == list(
        outputs["labels"][:, 0]
    )
    np.testing.assert_array_equal(outputs["scores"][:, 0], outputs["probabilities"].max(1))
    assert response.model_spec.name == "fa_net" and response.model_spec.version.value >= 1


def test_png_jpeg_pixels_and_examples_of_one_face_get_one_answer(connection: Connection) -> None:
    crop = face_crops(1)[0]
    png = encode(crop, ".png")
    pixels = connection.predict({"images": crop[None]}, signature="predict_images")
    from_png = connection.predict({"image_bytes": np.array([png], object)})
    from_jpeg = connection.predict({"image_bytes": np.array([encode(crop)], object)})
    expected = tf.make_ndarray(pixels["probabilities"])
    np.testing.assert_allclose(tf.make_ndarray(from_png["probabilities"]), expected, atol=1e-6)
    np.testing.assert_allclose(tf.make_ndarray(from_jpeg["probabilities"]), expected, atol=0.05)
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "fa_net", "classify"
    example = request.input.example_list.examples.add()
    example.features.feature["image/encoded"].bytes_list.value.append(png)
    classes = connection.stub.Classify(request, timeout=60).result.classifications[0].classes
    assert [entry.label.encode() for entry in classes] == list(tf.make_ndarray(from_png["labels"])[0])
    np.testing.assert_allclose([entry.score for entry in classes], tf.make_ndarray(from_png["scores"])[0], atol=1e-6)


def test_embed_gives_the_256_numbers_of_the_face(connection: Connection, faces: list[bytes]) -> None:
    outputs = connection.predict({"image_bytes": np.array(faces[:2], object)}, signature="embed")
    features = tf.make_ndarray(outputs["features"])
    assert features.shape == (2, 256) and features.dtype == np.float32
    assert not np.allclose(features[0], features[1])


def test_an_output_filter_leaves_the_others_out(connection: Connection, faces: list[bytes]) -> None:
    outputs = connection.predict({"image_bytes": np.array(faces[:1], object)}, ("scores",))
    assert list(outputs) == ["scores"]
    request = predict_request(faces[:1])
    request.output_filter.append("nonsense")
    assert code_of(connection.stub.Predict, request)[0] in REFUSED


def test_a_bad_image_is_named_by_its_index(connection: Connection, faces: list[bytes], embedded: bool) -> None:
    for bad in (b"", b"no image", faces[0][:200], faces[0][: len(faces[0]) // 2], b"GIF89a" + bytes(100)):
        code, message = code_of(connection.stub.Predict, predict_request([*faces[:5], bad, *faces[5:7]]))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        if embedded:
            assert "image 5" in message, message


def test_a_huge_claim_in_a_small_file_is_refused(connection: Connection) -> None:
    png = encode(face_crops(1)[0], ".png")
    for width, height in ((30_000, 30_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (5_000_000, 1)):
        claim = png[:16] + struct.pack(">II", width, height) + png[24:]
        code, _ = code_of(connection.stub.Predict, predict_request([claim]))
        assert code is grpc.StatusCode.INVALID_ARGUMENT


def wrong_requests() -> dict[str, predict_pb2.PredictRequest]:
    png = encode(face_crops(1)[0], ".png")
    wrong = {
        "no model": predict_request([png], name="nobody"),
        "unknown signature": predict_request([png], "nonsense"),
        "empty batch": predict_request([]),
        "no input": predict_pb2.PredictRequest(),
    }
    wrong["no input"].model_spec.name = "fa_net"
    wrong["unknown version"] = predict_request([png])
    wrong["unknown version"].model_spec.version.value = 99
    wrong["unknown label"] = predict_request([png])
    wrong["unknown label"].model_spec.version_label = "canary"
    for name, tensor in {
        "wrong dtype": tf.make_tensor_proto([1.5]),
        "scalar": tf.make_tensor_proto(png),
        "matrix": tf.make_tensor_proto([[png]]),
    }.items():
        wrong[name] = predict_request([png])
        wrong[name].inputs["image_bytes"].CopyFrom(tensor)
    wrong["fewer strings than claimed"] = predict_request([png])
    wrong["fewer strings than claimed"].inputs["image_bytes"].tensor_shape.dim[0].size = 3
    wrong["negative size"] = predict_request([png])
    wrong["negative size"].inputs["image_bytes"].tensor_shape.dim[0].size = -1
    wrong["unknown input"] = predict_request([png])
    wrong["unknown input"].inputs["more"].CopyFrom(tf.make_tensor_proto([1.0]))
    return wrong


@pytest.mark.parametrize("name", wrong_requests())
def test_a_wrong_request_gets_an_error_code(connection: Connection, name: str) -> None:
    assert code_of(connection.stub.Predict, wrong_requests()[name])[0] in REFUSED


def test_pixels_that_claim_more_than_they_hold_are_refused(connection: Connection) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "fa_net", "predict_images"
    tensor = request.inputs["images"]
    tensor.dtype = tf.uint8.as_datatype_enum
    for size in (1, 200_000, 200_000, 3):
        tensor.tensor_shape.dim.add(size=size)
    tensor.int_val.append(7)
    assert code_of(connection.stub.Predict, request)[0] in REFUSED
    del tensor.int_val[:]
    tensor.tensor_content = bytes(100)
    assert code_of(connection.stub.Predict, request)[0] in REFUSED


def test_pixels_of_which_only_one_is_given_are_refused(connection: Connection, embedded: bool) -> None:
    if not embedded:
        pytest.skip("TensorFlow Serving fills the rest with the last value")
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "fa_net", "predict_images"
    tensor = request.inputs["images"]
    tensor.dtype = tf.uint8.as_datatype_enum
    for size in (1, 1000, 1000, 3):
        tensor.tensor_shape.dim.add(size=size)
    tensor.int_val.append(7)
    code, message = code_of(connection.stub.Predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "`images` of shape [1, 1000, 1000, 3] claims 3000000 values and holds 1" in message


def test_regress_and_multi_inference_are_not_offered(connection: Connection, embedded: bool) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "fa_net"
    request.input.example_list.examples.add()
    code, message = code_of(connection.stub.Regress, request)
    assert code in REFUSED
    if embedded:
        assert "'serving_default' is for tensorflow/serving/predict, not for Regress" in message
        code, _ = code_of(connection.stub.MultiInference, inference_pb2.MultiInferenceRequest())
        assert code is grpc.StatusCode.UNIMPLEMENTED


def test_classify_names_what_is_wrong_with_an_example(connection: Connection, embedded: bool) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "fa_net", "classify"
    assert code_of(connection.stub.Classify, request)[0] in REFUSED
    request.input.example_list.examples.add()
    code, message = code_of(connection.stub.Classify, request)
    assert code in REFUSED
    if embedded:
        assert "image 0" in message and "image/encoded" in message
    request.model_spec.signature_name = "embed"
    assert code_of(connection.stub.Classify, request)[0] in REFUSED


def context_request(count: int) -> classification_pb2.ClassificationRequest:
    """Empty examples with a context, which is empty too."""
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "fa_net", "classify"
    listed = request.input.example_list_with_context
    listed.context.SetInParent()
    for _ in range(count):
        listed.examples.add()
    return request


def test_examples_take_their_image_from_a_shared_context(connection: Connection, faces: list[bytes]) -> None:
    request = context_request(2)
    context = request.input.example_list_with_context.context
    context.features.feature["image/encoded"].bytes_list.value.append(faces[0])
    own = request.input.example_list_with_context.examples[1].features.feature["image/encoded"]
    own.bytes_list.value.append(faces[1])
    shared, other = connection.stub.Classify(request, timeout=60).result.classifications
    scores = tf.make_ndarray(connection.predict({"image_bytes": np.array(faces[:2], object)})["scores"])
    np.testing.assert_allclose([entry.score for entry in shared.classes], scores[0], atol=1e-5)
    np.testing.assert_allclose([entry.score for entry in other.classes], scores[1], atol=1e-5)


def test_examples_are_counted_and_measured_before_their_context_is_copied(
    connection: Connection, embedded: bool
) -> None:
    if not embedded:
        pytest.skip("TensorFlow Serving words its refusals otherwise")
    code, message = code_of(connection.stub.Classify, context_request(0))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and message == "the batch is empty"
    # Were they built first, the first one's missing image would be named.
    code, message = code_of(connection.stub.Classify, context_request(1000))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "1000 images in one request" in message
    request = context_request(60)
    context = request.input.example_list_with_context.context
    context.features.feature["padding"].bytes_list.value.append(bytes(1_200_000))
    code, message = code_of(connection.stub.Classify, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "60 examples with their context take 72" in message


def test_metadata_holds_the_four_signatures(connection: Connection) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "fa_net"
    response = connection.stub.GetModelMetadata(request, timeout=60)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "predict_images", "embed", "classify"} <= set(signatures.signature_def)
    assert signatures.signature_def["classify"].method_name == "tensorflow/serving/classify"
    request.metadata_field[:] = ["nonsense"]
    assert code_of(connection.stub.GetModelMetadata, request)[0] in REFUSED


def test_status_says_that_the_version_is_available(connection: Connection) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(connection.channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "fa_net"
    states = stub.GetModelStatus(request, timeout=60).model_version_status
    assert get_model_status_pb2.ModelVersionStatus.AVAILABLE in {state.state for state in states}
    request.model_spec.version.value = 99
    assert code_of(stub.GetModelStatus, request)[0] is grpc.StatusCode.NOT_FOUND


def test_health_says_serving(connection: Connection, embedded: bool) -> None:
    if not embedded:
        pytest.skip("TensorFlow Serving answers the health service only in some builds")
    stub = health_pb2_grpc.HealthStub(connection.channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_a_passed_deadline_is_answered_as_such(connection: Connection, faces: list[bytes]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connection.stub.Predict(predict_request(faces[:32]), timeout=0.0005)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert connection.stub.Predict(predict_request(faces[:1]), timeout=60).outputs
