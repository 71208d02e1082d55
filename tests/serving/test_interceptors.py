"""A call's message must come, calls above the limit are refused and counted, and streams hear that a server stops."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fer_tf.recognition.server import Connection
from serving import interceptors
from tests.serving.conftest import serving
from tests.serving.test_lifecycle import http
from tests.serving.test_server import predict_request


def test_calls_without_a_message_end_and_are_refused_and_counted_above_the_limit(
    small: str, faces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "MESSAGE_SECONDS", 2.0)
    with serving(model_base_path=small, max_concurrent_rpcs=4) as server, Connection(server.address) as connection:
        never = threading.Event()

        def nothing() -> Iterator[bytes]:
            never.wait(60)
            yield from ()

        begin = connection.channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        waiting = [begin.future(nothing()) for _ in range(4)]
        refused = begin.future(nothing()).exception(60)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "4 requests are open" in refused.details()
        # Whether the server is well can be asked all the same.
        stub = health_pb2_grpc.HealthStub(connection.channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=60).status == health_pb2.HealthCheckResponse.SERVING
        for call in waiting:
            assert call.exception(60).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert begin.future(iter(())).exception(60).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert connection.stub.Predict(predict_request(faces[:1]), timeout=60).outputs
        page = http(server.http, "/monitoring/prometheus/metrics")[1]
        never.set()
    for code, count in (("RESOURCE_EXHAUSTED", 1), ("DEADLINE_EXCEEDED", 4)):
        assert f'fer_tf_requests_total{{code="{code}",method="Predict",model=""}} {count}.0' in page


def test_streams_hear_that_the_server_stops_and_do_not_hold_it_up(small: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(model_base_path=small, drain_seconds=600, enable_reflection=True))
        with grpc.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watched = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
            assert [next(each).status for each in watched] == [health_pb2.HealthCheckResponse.SERVING] * 2
            asking = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
            never = threading.Event()
            asked = asking(iter(lambda: bytes([58, 0]) if not never.wait(1) else b"", b""))
            assert b"tensorflow.serving.PredictionService" in next(asked)
            # Waits for the end, within a minute.
            stack.close()
            never.set()
            for each in watched:
                assert next(each).status == health_pb2.HealthCheckResponse.NOT_SERVING
                with pytest.raises(grpc.RpcError) as caught:
                    next(each)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
