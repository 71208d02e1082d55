"""Versions come and go under load, SIGTERM answers what was accepted, limits hold."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

from benchmarks.serving_setup import ServerProcess
from fer_tf.errors import InputError, ServerError
from fer_tf.recognition.server import Connection
from serving import demo, hosts, settings
from serving.config import ServerConfig
from tests import programs
from tests.serving.conftest import serving
from tests.serving.load import Load
from tests.serving.test_server import predict_request

AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
END = get_model_status_pb2.ModelVersionStatus.END


def http(address: str, path: str, body: bytes | None = None, timeout: float = 10) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", body, timeout=timeout) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def states(address: str, name: str = "fa_net") -> dict[int, int]:
    with grpc.insecure_channel(address) as channel:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    return {entry.version: entry.state for entry in response.model_version_status}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def add_version(base: Path, version: int) -> None:
    """A new version that appears at once, as the export writes it."""
    shutil.copytree(base / "1", base / f".{version}.partial")
    (base / f".{version}.partial").rename(base / str(version))


@pytest.fixture
def models(small: str, tmp_path: Path) -> Path:
    shutil.copytree(Path(small) / "1", tmp_path / "fa_net" / "1")
    return tmp_path / "fa_net"


def test_a_swap_fails_no_request_and_sigterm_answers_what_was_accepted(
    models: Path, faces: list[bytes], server_process: Callable[..., ServerProcess]
) -> None:
    server = server_process(f"--model_base_path={models}", "--file_system_poll_wait_seconds=0.1")
    with Load(server.address, faces) as load:
        wait_for(lambda: len(load.versions) > 50)
        add_version(models, 2)
        wait_for(lambda: states(server.address) == {1: END, 2: AVAILABLE})
        after = len(load.versions)
        wait_for(lambda: len(load.versions) > after + 50)
        # A version that cannot be loaded takes nothing down.
        (models / "3").mkdir()
        (models / "3" / "saved_model.pb").write_bytes(b"no graph")
        wait_for(lambda: states(server.address).get(3) == END)
        assert states(server.address)[2] == AVAILABLE
        assert not load.failures
        first_of_2 = load.versions.index(2)
        # What each of the other clients had asked before the swap may still be answered by the old one.
        assert set(load.versions[:first_of_2]) == {1} and load.versions[first_of_2:].count(1) < load.clients
        answered = len(load.versions)
        assert server.stop() == 0
    # After SIGTERM a connection is refused; a request that had been accepted was answered before the end.
    assert len(load.versions) >= answered
    assert {error.code() for error in load.failures} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    log = "".join(server.log)
    assert "answering those that were accepted" in log and "stopped" in log and "Traceback" not in log


def test_sigterm_ends_a_server_that_has_not_begun_to_answer(small: str) -> None:
    process = programs.Module("serving.server", f"--model_base_path={small}", "--port=0", "--rest_api_port=0")

    def handled() -> bool:
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)[1]
        return bool(int(caught, 16) >> signal.SIGTERM - 1 & 1)

    # Without a handler process 1 of a container would not hear it.
    wait_for(handled)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM


def open_and_answered(server: ServerProcess) -> tuple[float, float]:
    """How many requests the server is answering, and how many Predict it has answered."""
    page = http(server.http, "/monitoring/prometheus/metrics")[1]
    answered = re.findall(r'^fer_tf_requests_total\{.*method="Predict".*\} (\S+)$', page, re.MULTILINE)
    return float(re.search(r"^fer_tf_open_requests (\S+)$", page, re.MULTILINE)[1]), sum(map(float, answered))


def test_sigterm_lets_long_requests_over_grpc_and_http_finish(
    exported: str, faces: list[bytes], server_process: Callable[..., ServerProcess]
) -> None:
    server = server_process(f"--model_base_path={exported}", "--max_batch_size=1")
    body = json.dumps({"instances": [{"b64": base64.b64encode(face).decode()} for face in faces[:24]]}).encode()

    def post() -> tuple[int, str]:
        return http(server.http, "/v1/models/fa_net:predict", body, timeout=60)

    with Connection(server.address) as connection, ThreadPoolExecutor(6) as pool:
        connection.wait()
        # 24 images one by one take long enough for some to be under way when the signal comes.
        calls = [connection.stub.Predict.future(predict_request(faces[:24]), timeout=60) for _ in range(10)]
        posts = [pool.submit(post) for _ in range(6)]
        seen = []
        wait_for(lambda: seen.append(open_and_answered(server)) or sum(seen[-1]) == 16)
        assert seen[-1][0] > 0
        server.process.send_signal(signal.SIGTERM)
        for call in calls:
            assert tf.make_ndarray(call.result(60).outputs["probabilities"]).shape == (24, 4)
        for answer in posts:
            code, said = answer.result(60)
            assert code == 200 and len(json.loads(said)["predictions"]) == 24
    assert server.process.wait(60) == 0


def test_readiness_metrics_and_status_are_shown(small: str, faces: list[bytes]) -> None:
    with serving(model_base_path=small) as server:
        with Connection(server.address) as connection:
            connection.stub.Predict(predict_request(faces[:3]), timeout=60)
            with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
                connection.classify_encoded([b"no image"])
        assert http(server.http, "/healthz")[0] == http(server.http, "/readyz")[0] == 200
        page = http(server.http, "/monitoring/prometheus/metrics")[1]
        assert 'fer_tf_requests_total{code="OK",method="Predict",model="fa_net"} 1.0' in page
        assert 'fer_tf_requests_total{code="INVALID_ARGUMENT",method="Predict",model="fa_net"} 1.0' in page
        assert 'fer_tf_images_total{model="fa_net"} 3.0' in page
        assert '"state": "AVAILABLE"' in http(server.http, "/v1/models/fa_net")[1]
        assert http(server.http, "/v1/models/nobody")[0] == http(server.http, "/etc/passwd")[0] == 404


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_server_listens_on_ipv6_too(small: str, faces: list[bytes], host: str) -> None:
    with serving(model_base_path=small, host=host) as server:
        with Connection(f"[::1]:{server.port}", timeout_s=60) as connection:
            assert len(connection.classify_encoded(faces[:1])) == 1
        assert http(f"[::1]:{server.http_port}", "/readyz")[0] == 200
        with pytest.raises(OSError):
            http(f"127.0.0.1:{server.http_port}", "/readyz")
    port = demo._free_port(host)
    demo._refuse_taken(host, port)
    with hosts.listener(host, port), pytest.raises(InputError, match=r"`host` '\[?::1\]?' with `port` \d+"):
        demo._refuse_taken(host, port)


def test_names_that_callers_invent_do_not_become_metrics(small: str, faces: list[bytes]) -> None:
    with serving(model_base_path=small) as server, Connection(server.address) as connection:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["nonsense"])
        for name in ("invented", "fa_net"):
            request.model_spec.name = name
            with pytest.raises(grpc.RpcError):
                connection.stub.GetModelMetadata(request, timeout=60)
        with pytest.raises(grpc.RpcError):
            connection.stub.Predict(predict_request(faces[:1], name="invented"), timeout=60)
        page = http(server.http, "/monitoring/prometheus/metrics")[1]
    assert "invented" not in page
    counted = 'fer_tf_requests_total{code="INVALID_ARGUMENT",method="GetModelMetadata",model="%s"} 1.0'
    assert counted % "" in page and counted % "fa_net" in page


def test_limits_are_kept(small: str, faces: list[bytes]) -> None:
    limits = {"max_message_bytes": 200_000, "max_images": 4, "max_image_pixels": 256 * 256}
    with serving(model_base_path=small, **limits) as server, Connection(server.address) as connection:
        assert len(connection.classify_encoded(faces[:4])) == 4
        with pytest.raises(ServerError, match="5 images in one request; the limit is 4"):
            connection.classify_encoded(faces[:5])
        large = tf.io.encode_jpeg(np.zeros((257, 256, 3), np.uint8)).numpy()
        with pytest.raises(ServerError, match="image 1: its header claims 256 x 257 pixels"):
            connection.classify_encoded([faces[0], large])
        pixels = np.zeros((1, 257, 256, 3), np.uint8)
        assert connection.predict({"images": pixels[:, 1:]}, signature="predict_images")
        with pytest.raises(ServerError, match="each image has 256 x 257 pixels; the limit is 65536"):
            connection.predict({"images": pixels}, signature="predict_images")
        with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED"):
            connection.classify_encoded([bytes(300_000)])


def test_a_version_that_is_copied_in_slowly_is_served_when_it_is_whole_and_a_number_too_large_is_none(
    models: Path,
) -> None:
    shutil.copytree(models / "1", models / "20261130032424123456")
    largest = 2**63 - 1
    with serving(model_base_path=str(models), file_system_poll_wait_seconds=0.1) as server:
        assert states(server.address) == {1: AVAILABLE}
        (models / str(largest)).mkdir()
        shutil.copy(models / "1" / "saved_model.pb", models / str(largest))
        wait_for(lambda: states(server.address).get(largest) == END)
        shutil.copytree(models / "1", models / str(largest), dirs_exist_ok=True)
        wait_for(lambda: states(server.address) == {1: END, largest: AVAILABLE})
        assert http(server.http, f"/v1/models/fa_net/versions/{largest}")[0] == 200
        for none in (largest + 1, 20261130032424123456):
            assert http(server.http, f"/v1/models/fa_net/versions/{none}")[0] == 404


def test_dead_and_old_connections_are_closed_unless_the_flag_says_otherwise() -> None:
    config = ServerConfig(grpc_channel_arguments="grpc.max_connection_age_ms=5, grpc.keepalive_time_ms=7")
    for given, age, silence in ((ServerConfig(), 600_000, 60_000), (config, 5, 7)):
        options = settings.grpc_options(given)
        assert len(dict(options)) == len(options)
        assert dict(options)["grpc.max_connection_age_ms"] == age
        assert dict(options)["grpc.keepalive_time_ms"] == silence


def test_an_old_version_is_served_by_number_and_by_label(models: Path, faces: list[bytes], tmp_path: Path) -> None:
    add_version(models, 2)
    config = tmp_path / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{ name: "fa_net" base_path: "{models}" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }}
        version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} }} }}"""
    )
    with serving(model_config_file=str(config)) as server, Connection(server.address) as connection:
        assert states(server.address) == {1: AVAILABLE, 2: AVAILABLE}
        request = predict_request(faces[:1])
        assert connection.stub.Predict(request, timeout=60).model_spec.version.value == 2
        request.model_spec.version.value = 1
        assert connection.stub.Predict(request, timeout=60).model_spec.version.value == 1
        request.model_spec.version_label = "stable"
        assert connection.stub.Predict(request, timeout=60).model_spec.version.value == 1
        # Some clients say 0 where they mean the newest.
        request.model_spec.version.value = 0
        assert connection.stub.Predict(request, timeout=60).model_spec.version.value == 2
        for place, version in (("/labels/stable", 1), ("/versions/1", 1), ("/versions/0", 2), ("", 2)):
            _, said = http(server.http, f"/v1/models/fa_net{place}/metadata")
            assert json.loads(said)["model_spec"]["version"] == str(version)
            found = json.loads(http(server.http, f"/v1/models/fa_net{place}")[1])["model_version_status"]
            assert len(found) == (1 if version == 1 else 2)
        assert http(server.http, "/v1/models/fa_net/labels/none")[0] == 404


def reload_request(name: str, base_path: str) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    return request


def test_a_reload_swaps_models_inside_the_root_alone(models: Path, faces: list[bytes], small: str) -> None:
    with serving(model_base_path=str(models)) as server, Connection(server.address) as connection:
        stub = model_service_pb2_grpc.ModelServiceStub(connection.channel)
        for outside in (small, "/etc", str(models / ".." / ".." / "elsewhere"), ""):
            with pytest.raises(grpc.RpcError) as caught:
                stub.HandleReloadConfigRequest(reload_request("other", outside), timeout=60)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert connection.stub.Predict(predict_request(faces[:1]), timeout=60).outputs
        stub.HandleReloadConfigRequest(reload_request("other", str(models)), timeout=60)
        assert connection.stub.Predict(predict_request(faces[:1], name="other"), timeout=60).outputs
        with pytest.raises(grpc.RpcError) as caught:
            connection.stub.Predict(predict_request(faces[:1]), timeout=60)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_reload_to_a_folder_without_a_model_leaves_the_old_one(models: Path, faces: list[bytes]) -> None:
    (models.parent / "empty" / "1").mkdir(parents=True)
    with serving(model_base_path=str(models)) as server, Connection(server.address) as connection:
        stub = model_service_pb2_grpc.ModelServiceStub(connection.channel)
        for name in ("fa_net", "other"):
            for folder in ("empty", "missing"):
                with pytest.raises(grpc.RpcError, match="holds no version to serve") as caught:
                    stub.HandleReloadConfigRequest(reload_request(name, str(models.parent / folder)), timeout=60)
                assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert connection.stub.Predict(predict_request(faces[:1]), timeout=60).outputs
        assert states(server.address) == {1: AVAILABLE}


def test_a_reload_whose_model_cannot_be_loaded_leaves_the_old_ones(
    models: Path, faces: list[bytes], small: str
) -> None:
    broken = models.parent / "broken"
    shutil.copytree(f"{small}/1", broken / "1")
    (broken / "1" / "saved_model.pb").write_bytes(b"no graph")
    with serving(model_base_path=str(models)) as server, Connection(server.address) as connection:
        stub = model_service_pb2_grpc.ModelServiceStub(connection.channel)
        for name in ("fa_net", "other"):
            request = reload_request(name, str(broken))
            # A good one beside it is not begun either.
            request.config.model_config_list.config.add(name="good", base_path=str(models))
            with pytest.raises(
                grpc.RpcError, match=r"no version that can be loaded from .*nothing was changed"
            ) as caught:
                stub.HandleReloadConfigRequest(request, timeout=60)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert connection.stub.Predict(predict_request(faces[:1]), timeout=60).outputs
            with pytest.raises(grpc.RpcError, match="no model 'good'"):
                states(server.address, "good")
        assert states(server.address) == {1: AVAILABLE}
        stub.HandleReloadConfigRequest(reload_request("other", str(models)), timeout=60)
        assert connection.stub.Predict(predict_request(faces[:1], name="other"), timeout=60).outputs


def test_a_link_that_leads_out_of_the_root_is_refused(models: Path, small: str) -> None:
    (models.parent / "linked").symlink_to(small)
    with serving(model_base_path=str(models)) as server, grpc.insecure_channel(server.address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.HandleReloadConfigRequest(reload_request("other", str(models.parent / "linked")), timeout=60)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model_base_path": "nowhere/fa_net"}, "run `python -m serving.export` first"),
        ({"batching_parameters_file": "wrong.txt"}, "line 1:1"),
        ({"ssl_config_file": "missing.txt"}, "`ssl_config_file` cannot be read"),
        ({"grpc_channel_arguments": "nonsense"}, "name=value"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(
    flags: dict, message: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.txt").write_text("maximal_batch: 3")
    with pytest.raises(InputError, match=message), serving(**{"model_base_path": small, **flags}):
        pass


@pytest.mark.parametrize("path", ["metrics", "/healthz", "/v1", "/v1/models", "/{name}"])
def test_a_path_that_cannot_be_the_metrics_is_told_before_a_model_is_loaded(
    path: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.loaded.LoadedVersion", lambda *_: pytest.fail("loaded"))
    written = tmp_path / "monitoring.config"
    written.write_text(f'prometheus_config {{ enable: true path: "{path}" }}')
    told = f"`monitoring_config_file` .*: path must begin with /.*Received: {re.escape(repr(path))}"
    with pytest.raises(InputError, match=told), serving(model_base_path=small, monitoring_config_file=str(written)):
        pass


def test_a_taken_port_is_an_error(small: str) -> None:
    with (
        serving(model_base_path=small) as server,
        pytest.raises(InputError, match="`port`"),
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(serving(model_base_path=small, port=server.port))


def test_a_taken_http_port_is_an_error(small: str) -> None:
    with serving(model_base_path=small) as server:
        taken = server.http_port
        with (
            pytest.raises(InputError, match=f"`rest_api_port` {taken} cannot be used on 127.0.0.1"),
            serving(model_base_path=small, rest_api_port=taken),
        ):
            pass
