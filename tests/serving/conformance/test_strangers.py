"""Clients that nobody here wrote get from the server what this project's own client gets.

`make conformance` runs them; docs/serving.md has the table. What cannot be had on this machine is skipped, by name.
"""

from __future__ import annotations

import base64
import json
import urllib.request

import numpy as np
import pytest

from tests.serving.conformance.conftest import CLIENTS, Served, node_folder, program, python_with, run

pytestmark = pytest.mark.conformance
PREDICT = "tensorflow.serving.PredictionService/Predict"
NOT_AN_IMAGE = "image 0: neither JPEG nor PNG: starts with 6e6f20696d616765"


def close(found: object, served: Served) -> bool:
    return np.allclose(np.ravel(found), served.answer.probabilities, atol=1e-5)


def predict_request(image: bytes) -> str:
    tensor = {
        "dtype": "DT_STRING",
        "tensor_shape": {"dim": [{"size": "1"}]},
        "string_val": [base64.b64encode(image).decode()],
    }
    return json.dumps({"model_spec": {"name": "fa_net"}, "inputs": {"image_bytes": tensor}})


def test_ovmsclient_over_grpc_and_http(served: Served) -> None:
    python = python_with("ovmsclient", "ovmsclient==2023.1")
    answers = json.loads(run(python, CLIENTS / "ovms.py", served.grpc, served.http, served.face).splitlines()[-1])
    for name, said in answers.items():
        assert close(said["probabilities"], served), name
        assert said["labels"][0][0] == served.answer.best()[0][0], name
        assert said["status"] == {"1": "AVAILABLE"}, name
        assert NOT_AN_IMAGE in said["refusal"], name
    image = answers["grpc"]["metadata"]["inputs"]["image_bytes"]
    assert (image["dtype"], image["shape"]) == ("DT_STRING", [-1])
    # Over HTTP it unpacks OpenVINO's form of the names and hands on TensorFlow Serving's as it is.
    assert answers["http"]["metadata"]["model_spec"]["version"] == "1"


def test_min_tfs_client(served: Served) -> None:
    # Its protos are from before protobuf's change of generated code, its numpy names from before 2.
    python = python_with("min-tfs-client", "min-tfs-client==1.0.2", "protobuf<3.21", "numpy<2")
    port = served.grpc.rsplit(":", 1)[1]
    said = json.loads(run(python, CLIENTS / "min_tfs.py", port, served.pixels))
    assert close(said["probabilities"], served)
    assert said["refusal"] == f"INVALID_ARGUMENT: {NOT_AN_IMAGE}"


def test_node_with_the_official_protos(served: Served) -> None:
    program("npm")
    said = json.loads(run(program("node"), "client.js", served.grpc, served.protos, served.face, cwd=node_folder()))
    assert close(said["probabilities"], served)
    assert said["labels"][0] == said["classes"][0]["label"] == served.answer.best()[0][0]
    assert said["metadata"] == ["signature_def"] and said["states"] == [["1", "AVAILABLE"]]
    assert said["refusal"] == f"3: {NOT_AN_IMAGE}"


def test_grpcurl_by_reflection(served: Served) -> None:
    grpcurl = program("grpcurl")
    listed = run(grpcurl, "-plaintext", served.grpc, "list").split()
    services = {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health"}
    assert services <= set(listed)
    assert "rpc Predict" in run(grpcurl, "-plaintext", served.grpc, "describe", "tensorflow.serving.PredictionService")
    said = json.loads(run(grpcurl, "-plaintext", "-d", predict_request(served.encoded), served.grpc, PREDICT))
    assert close(said["outputs"]["probabilities"]["float_val"], served)
    status = '{"model_spec": {"name": "fa_net"}}'
    said = json.loads(
        run(grpcurl, "-plaintext", "-d", status, served.grpc, "tensorflow.serving.ModelService/GetModelStatus")
    )
    assert said["model_version_status"][0]["state"] == "AVAILABLE"


def test_ghz_loads_without_a_failure(served: Served) -> None:
    flags = ["--insecure", "--protoset", served.protos, "--call", PREDICT, "-d", predict_request(served.encoded)]
    report = json.loads(run(program("ghz"), *flags, "-n", "200", "-c", "8", "-O", "json", served.grpc))
    assert report["statusCodeDistribution"] == {"OK": 200} and not report.get("errorDistribution")


def test_curl_over_http(served: Served) -> None:
    curl = program("curl")
    image = {"b64": base64.b64encode(served.encoded).decode()}
    address = f"http://{served.http}/v1/models/fa_net"
    rows = run(curl, "-sS", "-d", json.dumps({"instances": [image]}), f"{address}:predict")
    assert close(json.loads(rows)["predictions"][0]["probabilities"], served)
    columns = run(curl, "-sS", "-d", json.dumps({"inputs": {"image_bytes": [image]}}), f"{address}/versions/1:predict")
    assert close(json.loads(columns)["outputs"]["probabilities"], served)
    body = json.dumps({"signature_name": "classify", "examples": [{"image/encoded": image}]})
    (classes,) = json.loads(run(curl, "-sS", "-d", body, f"{address}:classify"))["results"]
    assert classes[0][0] == served.answer.best()[0][0]
    # A body above 1 MiB waits for the server's word first; chunked, its length is not told.
    large = served.face.parent / "large.json"
    large.write_text(json.dumps({"instances": [image] * 40}) + " " * 1_500_000)
    for flags in (["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["--http1.0"]):
        said = run(curl, "-sS", *flags, "--data-binary", f"@{large}", f"{address}:predict")
        assert len(json.loads(said)["predictions"]) == 40, flags
    large.write_text(" " * 9_000_000)
    said = run(curl, "-sS", "-w", "%{http_code}", "--data-binary", f"@{large}", f"{address}:predict")
    assert said.endswith("413") and "--max_message_bytes=8388608" in said
    said = run(curl, "-sS", "-w", "%{http_code}", "-X", "DELETE", f"{address}:predict")
    assert json.loads(said[:-3])["error"] and said.endswith("405")


def test_pythons_own_client_over_http(served: Served) -> None:
    with urllib.request.urlopen(f"http://{served.http}/v1/models/fa_net/metadata", timeout=60) as answer:
        assert json.load(answer)["metadata"]["signature_def"]["signature_def"]["classify"]
