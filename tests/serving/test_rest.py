"""TensorFlow Serving's HTTP API: the same answers, limits and error texts as gRPC, every error as JSON."""

from __future__ import annotations

import base64
import contextlib
import gc
import http.client
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2

from benchmarks.serving_setup import ServerProcess
from fer_tf.errors import InputError
from fer_tf.recognition.server import Connection
from serving import json_tensors
from serving.config import ServerConfig
from serving.tensors import RequestError
from tests.serving.conftest import encode, face_crops, serving
from tests.serving.test_lifecycle import wait_for
from tests.serving.test_server import predict_request

PREDICT = "/v1/models/fa_net:predict"


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


class Client:
    """Asks one server; every answer must be JSON."""

    def __init__(self, server: Any) -> None:
        self.server, self.address = server, server.http

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        assert response.headers["content-type"] == "application/json"
        return response.status, json.loads(response.read() or b"null")

    def post(self, body: Any, path: str = PREDICT, **headers: str) -> tuple[int, Any]:
        return self.ask("POST", path, body, **headers)

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask("GET", path)


@pytest.fixture(scope="module")
def client(exported: str) -> Iterator[Client]:
    with serving(model_base_path=exported) as server:
        yield Client(server)


@pytest.fixture(scope="module")
def strict(exported: str) -> Iterator[Client]:
    """A server that reads 100,000 bytes within a second, of one caller at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.settings.BODY_SECONDS", 1.0)
        patch.setattr("serving.http_server.HEADER_SECONDS", 1.0)
        with serving(model_base_path=exported, max_message_bytes=100_000, max_concurrent_rpcs=1) as server:
            yield Client(server)


def test_rows_and_columns_give_what_grpc_gives(client: Client, faces: list[bytes]) -> None:
    with Connection(client.server.address, timeout_s=60) as connection:
        outputs = connection.stub.Predict(predict_request(faces[:3]), timeout=60).outputs
    expected = {name: tf.make_ndarray(proto) for name, proto in outputs.items()}
    code, rows = client.post({"instances": [{"image_bytes": b64(face)} for face in faces[:3]]})
    assert code == 200 and list(rows) == ["predictions"]
    assert client.post({"instances": [b64(face) for face in faces[:3]]}) == (200, rows)
    code, columns = client.post({"inputs": {"image_bytes": [b64(face) for face in faces[:3]]}})
    assert code == 200 and list(columns) == ["outputs"]
    assert client.post({"signature_name": "serving_default", "inputs": [b64(f) for f in faces[:3]]}) == (200, columns)
    for name, values in expected.items():
        if values.dtype == object:
            assert columns["outputs"][name] == np.vectorize(bytes.decode)(values).tolist()
        else:
            # To the last bit of the float32.
            np.testing.assert_array_equal(np.array(columns["outputs"][name], np.float32), values)
        assert [row[name] for row in rows["predictions"]] == columns["outputs"][name]


def test_one_output_stands_alone_and_pixels_may_be_lists(client: Client) -> None:
    crop = face_crops(1)[0][:40, :40]
    code, said = client.post({"signature_name": "embed", "instances": [b64(encode(crop, ".png"))]})
    assert code == 200 and np.shape(said["predictions"]) == (1, 256)
    code, said = client.post({"signature_name": "embed", "inputs": [b64(encode(crop, ".png"))]})
    assert code == 200 and np.shape(said["outputs"]) == (1, 256)
    body = {"signature_name": "predict_images", "instances": [crop.tolist()]}
    code, pixels = client.post(body)
    _, from_png = client.post({"instances": [b64(encode(crop, ".png"))]})
    np.testing.assert_allclose(
        pixels["predictions"][0]["probabilities"], from_png["predictions"][0]["probabilities"], atol=1e-6
    )


def test_classify_gives_pairs_of_label_and_score(client: Client, faces: list[bytes]) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "fa_net", "classify"
    for face in faces[:2]:
        feature = request.input.example_list.examples.add().features.feature["image/encoded"]
        feature.bytes_list.value.append(face)
    with Connection(client.server.address) as connection:
        found = connection.stub.Classify(request, timeout=60).result.classifications
    expected = [[[entry.label, float(str(np.float32(entry.score)))] for entry in each.classes] for each in found]
    body = {"signature_name": "classify", "examples": [{"image/encoded": b64(face)} for face in faces[:2]]}
    path = "/v1/models/fa_net:classify"
    assert client.post(body, path) == (200, {"results": expected})
    shared = {"signature_name": "classify", "context": {"image/encoded": b64(faces[0])}}
    # An example may have features of other kinds; its own image wins over the shared one.
    shared["examples"] = [{"age": [3], "share": 0.5, "seen": True}, {"image/encoded": [b64(faces[1])], "note": "é"}]
    assert client.post(shared, path) == (200, {"results": expected})


def test_regress_is_refused_as_of_the_wrong_signature(client: Client, faces: list[bytes]) -> None:
    body = {"examples": [{"image/encoded": b64(faces[0])}]}
    code, said = client.post(body, "/v1/models/fa_net:regress")
    assert code == 400 and "'serving_default' is for tensorflow/serving/predict, not for Regress" in said["error"]
    assert client.post(body, "/v1/models/nobody:regress")[0] == 404


def test_status_and_metadata_have_tensorflow_servings_form(client: Client) -> None:
    entry = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in (
        "/v1/models/fa_net",
        "/v1/models/fa_net/versions/1",
        "/v1/models/fa_net/versions/0",
    ):
        assert client.get(path) == (200, {"model_version_status": [entry]})
    code, said = client.get("/v1/models/fa_net/metadata")
    assert code == 200 and said["model_spec"] == {"name": "fa_net", "signature_name": "", "version": "1"}
    signatures = said["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "predict_images", "embed", "classify"} <= set(signatures)
    image = signatures["serving_default"]["inputs"]["image_bytes"]
    assert image["dtype"] == "DT_STRING" and image["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert client.get("/v1/models/fa_net/versions/1/metadata") == (code, said)


def test_the_refusals_are_those_of_grpc(client: Client, faces: list[bytes]) -> None:
    with Connection(client.server.address) as connection:
        for images in ([faces[0], b"no image"], [], faces[:1] * 65, [faces[0][:300]]):
            with pytest.raises(grpc.RpcError) as caught:
                connection.stub.Predict(predict_request(images), timeout=60)
            code, said = client.post({"instances": [b64(image) for image in images]})
            assert (code, said) == (400, {"error": caught.value.details()})
        with pytest.raises(grpc.RpcError) as caught:
            connection.stub.Predict(predict_request(faces[:1], "nonsense"), timeout=60)
        body = {"signature_name": "nonsense", "instances": [b64(faces[0])]}
        assert client.post(body) == (400, {"error": caught.value.details()})


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the body is empty"),
    "cut": (b'{"instances": [', "JSON parse error: Expecting value: line 1 column 16"),
    "not utf-8": (b'{"instances": ["\xff"]}', "JSON parse error: 'utf-8' codec"),
    "a list": (b"[1, 2]", "must be a JSON object. Received: a list."),
    "nested lists": (b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "hold lists alone"),
    "fewer nested lists": (b'{"instances": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nest too deep"),
    "nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nest too deep"),
    "nested deeper than the input": (b'{"instances": [[["x"]]]}', "deeper than its 1 dimensions"),
    "a key twice": (b'{"instances": ["x"], "instances": ["y"]}', "key 'instances' stands twice"),
    "an inner key twice": (b'{"instances": [{"b64": "aa", "b64": "bb"}]}', "key 'b64' stands twice"),
    "long integer": (b'{"instances": [' + b"9" * 5000 + b"]}", "JSON parse error: Exceeds the limit"),
    "huge number": (b'{"instances": [1e999]}', "1e999 is too large for a double"),
    "NaN for bytes": (b'{"instances": [NaN]}', "`image_bytes` must be strings or"),
    "no input": (b"{}", "one of `instances` and `inputs`. Received: []"),
    "both inputs": (b'{"instances": ["x"], "inputs": ["x"]}', "one of `instances` and `inputs`"),
    "instances no list": (b'{"instances": "x"}', "`instances` must be a list. Received: a string."),
    "null": (b'{"instances": [null]}', "Received: null"),
    "lone input": (b'{"inputs": {"b64": ""}}', "must have the shape [None]"),
    "bad base64": (b'{"instances": [{"b64": "a*b="}]}', "`b64` is not base64"),
    "base64 no string": (b'{"instances": [{"b64": 3}]}', "Received: an object"),
    "unknown input": (b'{"instances": [{"picture": {"b64": ""}}]}', "Unknown: ['picture']"),
    "inputs that differ": (b'{"instances": [{"image_bytes": "x"}, {"b": "x"}]}', "`instances[1]` has the inputs ['b']"),
    "half a surrogate": (b'{"instances": ["\\ud800"]}', "half a surrogate pair"),
    "half a surrogate in a name": (b'{"instances": [{"\\udfff": "x"}]}', "half a surrogate pair"),
    "half a surrogate in the signature": (b'{"signature_name": "\\ud800", "instances": []}', "half a surrogate pair"),
    "a whole pair": (b'{"signature_name": "\\ud83d\\ude00", "instances": ["x"]}', "is unknown"),
    "signature no string": (b'{"signature_name": 3, "instances": ["x"]}', "`signature_name` must be a string"),
    "pixel too large": (b'{"signature_name": "predict_images", "instances": [[[[1, 2, 256]]]]}', "`images`: "),
    "pixel a fraction": (b'{"signature_name": "predict_images", "instances": [[[[1, 2, 2.5]]]]}', "number 2.5"),
    "pixel a bool": (b'{"signature_name": "predict_images", "instances": [[[[1, 2, true]]]]}', "Received: a bool"),
    "pixel NaN": (b'{"signature_name": "predict_images", "inputs": [[[[1, 2, NaN]]]]}', "Received: the number nan"),
    "ragged": (b'{"signature_name": "predict_images", "instances": [[[[1, 2, 3]], [[1, 2]]]]}', "not equally long"),
    "empty lists": (b'{"signature_name": "predict_images", "instances": [[], []]}', "must have the shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_body_is_named(client: Client, name: str) -> None:
    body, message = WRONG[name]
    code, said = client.post(body)
    assert code == 400 and list(said) == ["error"]
    assert message in said["error"] and len(said["error"]) < 400, said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"examples": []}, "the batch is empty"),
        ({"examples": {}}, "must have a list of `examples`. Received: an object."),
        ({"examples": [3]}, "`examples[0]` must be an object of features. Received: the number 3."),
        ({"examples": [{"image/encoded": ["x", 3]}]}, "'image/encoded': values must be strings"),
        ({"examples": [{"image/encoded": None}]}, "'image/encoded': values must be strings"),
        ({"examples": [{"age": 2**70}]}, "`examples[0]`: feature 'age': "),
        ({"examples": [{"other": "x"}]}, "image 0: the example needs `image/encoded`"),
        ({"examples": [{"image/encoded": "x"}], "context": []}, "`context` must be an object"),
    ],
)
def test_a_wrong_example_is_named(client: Client, body: dict, message: str) -> None:
    code, said = client.post({"signature_name": "classify", **body}, "/v1/models/fa_net:classify")
    assert code == 400 and message in said["error"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/etc/passwd", 404),
        ("GET", "/v1/models", 404),
        ("GET", "/v1", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/v1/models/fa_net/versions/x", 404),
        ("GET", "/v1/models/fa_net/versions/99", 404),
        ("GET", f"/v1/models/fa_net/versions/{'9' * 5000}", 404),
        ("GET", "/v1/models/nobody/metadata", 404),
        ("POST", "/v1/models/nobody:predict", 404),
        ("POST", "/v1/models/fa_net:explain", 404),
        ("POST", "/v1/models/%0a%ff%00:predict", 404),
        ("GET", PREDICT, 405),
        ("PUT", PREDICT, 405),
        ("POST", "/v1/models/fa_net", 405),
        ("POST", "/healthz", 405),
        ("BREW", "/v1/models/fa_net", 405),
    ],
)
def test_an_address_that_does_not_fit_gets_a_code_and_json(client: Client, method: str, path: str, code: int) -> None:
    body = b'{"instances": ["x"]}' if method == "POST" else None
    received, said = client.ask(method, path, body)
    assert (received, list(said)) == (code, ["error"]) and said["error"]


def test_any_content_type_is_read_but_no_compressed_body(client: Client, faces: list[bytes]) -> None:
    body = {"instances": [b64(faces[0])]}
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"):
        assert client.post(body, **{"Content-Type": kind})[0] == 200
    code, said = client.post(body, **{"Content-Encoding": "gzip"})
    assert code == 415 and "'gzip' is not read" in said["error"]


def raw(address: str, sent: bytes, then: Callable[[socket.socket], None] = lambda _: None) -> tuple[bytes, Any]:
    """Sends bytes as they are; returns the status line and the JSON body."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        then(connection)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], json.loads(body) if body else None


def test_what_is_no_http_is_answered_in_json(client: Client) -> None:
    for nonsense in (b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        status, said = raw(client.address, nonsense)
        assert status.startswith(b"HTTP/1.1 400") and said == {"error": "Invalid HTTP request received."}
    status, said = raw(client.address, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 60_000)
    assert status.startswith(b"HTTP/1.1 400") and list(said) == ["error"]


def head(*headers: str) -> bytes:
    return "\r\n".join([f"POST {PREDICT} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def test_chunked_bodies_are_read_and_bounded(strict: Client, faces: list[bytes]) -> None:
    def chunks(*parts: bytes) -> bytes:
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return head("Transfer-Encoding: chunked", "Connection: close") + body + b"0\r\n\r\n"

    body = json.dumps({"instances": [b64(faces[0])]}).encode()
    status, said = raw(strict.address, chunks(body[:7], body[7:]))
    assert status.startswith(b"HTTP/1.1 200") and said["predictions"]
    status, said = raw(strict.address, chunks(*[b" " * 50_000] * 3))
    assert status.startswith(b"HTTP/1.1 413")
    assert said["error"] == "the body is larger than --max_message_bytes=100000. Received: 150000 bytes."


def test_a_large_body_is_read_without_looks_for_cycles_and_one_of_empty_lists_not_at_all(client: Client) -> None:
    looks: list[str] = []

    def look(phase: str, _: dict[str, int]) -> None:
        looks.append(phase)

    lists = b'{"signature_name": "predict_images", "instances": [' + b"[1]," * 300_000 + b"[1]]}"
    with json_tensors.without_collector():
        gc.callbacks.append(look)
        with json_tensors.without_collector():
            read = json_tensors.read_object(lists)
        gc.callbacks.remove(look)
    assert len(read["instances"]) == 300_001 and not looks and gc.isenabled()
    with pytest.raises(RequestError) as caught, json_tensors.without_collector():
        json_tensors.read_object(lists[:-1])
    assert gc.isenabled() and len(traceback.extract_tb(caught.value.__traceback__)) < 4
    code, said = client.post(lists)
    assert code == 400 and "must have the shape" in said["error"] and gc.isenabled()
    code, said = client.post(lists.replace(b"1", b""))
    assert code == 400 and said["error"] == "JSON parse error: most of its lists are empty or hold lists alone"


def test_a_slow_body_and_a_slow_header_are_not_waited_for(strict: Client) -> None:
    status, said = raw(strict.address, head("Content-Length: 100") + b'{"instances"')
    assert status.startswith(b"HTTP/1.1 408") and "was not here after 1 seconds" in said["error"]

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"a")
                time.sleep(0.05)

    with contextlib.suppress(ConnectionResetError):
        assert raw(strict.address, b"GET / HTTP/1.1\r\nHost: ", drip) == (b"", None)
    # A refusal needs no body; what still drips in is not waited for either.
    with contextlib.suppress(ConnectionResetError):
        status, _ = raw(strict.address, b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", drip)
        assert status.startswith(b"HTTP/1.1 405")


def test_requests_above_the_limit_of_open_ones_are_refused(strict: Client, faces: list[bytes]) -> None:
    def ask() -> tuple[int, Any]:
        return strict.post({"instances": [b64(faces[0])]})

    host, port = strict.address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as waiting:
        waiting.sendall(head("Content-Length: 100"))
        said: list[Any] = []
        wait_for(lambda: said.append(ask()) or said[-1][0] == 429)
        assert "1 requests are open; try again later" in said[-1][1]["error"]
        assert strict.get("/v1/models/fa_net")[0] == 200
    # Gone without a body: its place is free again.
    wait_for(lambda: ask()[0] == 200)


def test_open_requests_hold_no_more_bytes_than_they_may(exported: str, faces: list[bytes]) -> None:
    body = json.dumps({"instances": [b64(faces[0])]}).encode()
    most = 4 * len(body)
    with serving(model_base_path=exported, max_message_bytes=most // 2, max_open_bytes=most) as server:
        client = Client(server)
        host, port = client.address.rsplit(":", 1)
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                waiting = stack.enter_context(socket.create_connection((host, int(port))))
                waiting.sendall(head(f"Content-Length: {most // 2}") + b" " * (most // 2 - 100))
            said: list[Any] = []
            wait_for(lambda: said.append(client.post(body)) or said[-1][0] == 429)
            assert f"--max_open_bytes is {most}; try again later" in said[-1][1]["error"]
            with Connection(server.address) as connection, pytest.raises(grpc.RpcError) as caught:
                connection.stub.Predict(predict_request(faces[:1]), timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_for(lambda: client.post(body)[0] == 200)
    with pytest.raises(InputError, match="`max_open_bytes` must be at least twice `max_message_bytes`, 2048"):
        ServerConfig(max_message_bytes=1024, max_open_bytes=1)


def test_a_large_body_is_refused_before_memory_is_spent(
    exported: str, faces: list[bytes], server_process: Callable[..., ServerProcess]
) -> None:
    from benchmarks.serving_fuzz import rss_mb

    server = server_process(f"--model_base_path={exported}", "--max_message_bytes=1000000")
    client = Client(server)
    assert client.post({"instances": [b64(faces[0])]})[0] == 200
    before = rss_mb(server.process.pid)
    code, said = client.post(b" " * 40_000_000)
    assert code == 413 and "--max_message_bytes=1000000. Received: 40000000 bytes." in said["error"]
    # What is claimed to be far too large, or waits to be asked for, is not listened to.
    for header in (["Content-Length: 90000000000"], ["Content-Length: 2000000", "Expect: 100-continue"]):
        assert raw(server.http, head(*header))[0].startswith(b"HTTP/1.1 413")
    assert rss_mb(server.process.pid) - before < 30
    # The reading of many small lists is done one request at a time.
    lists = b'{"instances": [' + b"[1]," * 100_000 + b"[1]]}"
    threads = [threading.Thread(target=client.post, args=(lists,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rss_mb(server.process.pid) - before < 60
    assert server.stop() == 0 and "Traceback" not in "".join(server.log)


def test_rest_requests_are_counted_and_batched_with_grpcs(exported: str, faces: list[bytes]) -> None:
    with serving(model_base_path=exported, batch_timeout_micros=200_000) as server:
        client = Client(server)
        with Connection(server.address, timeout_s=60) as connection:

            def by_grpc() -> None:
                connection.stub.Predict(predict_request(faces[:1]), timeout=60)

            def by_rest() -> None:
                assert client.post({"instances": [b64(faces[0])]})[0] == 200

            threads = [threading.Thread(target=ask) for _ in range(6) for ask in (by_grpc, by_rest)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert client.post({"instances": ["x"]})[0] == 400
        connection = http.client.HTTPConnection(server.http)
        connection.request("GET", "/monitoring/prometheus/metrics")
        page = connection.getresponse().read().decode()
    assert 'fer_tf_requests_total{code="OK",method="Predict",model="fa_net"} 12.0' in page
    assert 'fer_tf_requests_total{code="INVALID_ARGUMENT",method="Predict",model="fa_net"} 1.0' in page
    batches = float(page.split('fer_tf_batch_size_count{model="fa_net"} ')[1].split()[0])
    assert batches <= 6
