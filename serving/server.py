"""An embedded model server that speaks TensorFlow Serving's protocol, for a laptop or a test.

`python -m serving.server` answers on the loopback address what `tensorflow_model_server` would answer in production;
flags that both have bear the same names.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError
from serving import hosts
from serving.config import ServerConfig

logger = logging.getLogger(__name__)
SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command until SIGTERM or Ctrl-C."""
    config, _ = parse(
        ServerConfig, argv, prog="python -m serving.server", description="Serve an exported Fa-Net over gRPC and HTTP."
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Process 1 of a container gets no signal that it does not handle. Before the server answers, nothing is to finish.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    asyncio.run(serve(config))
    return EXIT_OK


async def serve(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT, then answers what was accepted and returns.

    Raises:
      InputError: when there is no model, a file is wrong or the port is taken.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(config.tensorflow_intra_op_parallelism)
    tf.config.threading.set_inter_op_parallelism_threads(config.tensorflow_inter_op_parallelism)
    server = Server(config)
    await server.start()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    host = hosts.bracketed(config.host)
    print(f"ready: grpc={host}:{server.port} http={host}:{server.http_port}", flush=True)
    await stopping.wait()
    logger.info("stopping: no new requests; answering those that were accepted")
    await server.stop()
    logger.info("stopped")


class Server:
    """Both servers, gRPC's and HTTP's, with the manager that they share; belongs to one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        from serving.loaded import LoadedVersion
        from serving.manager import ModelManager
        from serving.metrics import Metrics
        from serving.settings import batching_options

        self._config = config
        self.metrics = Metrics()
        options = batching_options(config)
        # Without batching every open request runs the network itself.
        threads = options.threads if options.enabled else min(32, config.max_concurrent_rpcs)
        self._executor = ThreadPoolExecutor(threads, "network")
        self._manager = ModelManager(
            lambda name, version, folder: LoadedVersion(name, version, folder, self._executor, options, self.metrics),
            self.metrics,
            config.file_system_poll_wait_seconds,
        )
        self._health = health.aio.HealthServicer()
        self._answering = False
        self.port = 0
        self.http_port = -1

    async def start(self) -> None:
        """Loads the models and answers from then on.

        Raises:
          InputError: when there is no model, a file is wrong or a port is taken.
        """
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        from serving import services, settings
        from serving.interceptors import Gate

        config = self._config
        calls = services.Calls(self.metrics, self._manager.knows, config.max_open_bytes)
        root, configs = settings.model_configs(config)
        self._gate = Gate(config.max_concurrent_rpcs, self.metrics)
        self._grpc = grpc.aio.server(interceptors=(self._gate,), options=settings.grpc_options(config))
        prediction = services.PredictionService(
            self._manager, calls, self.metrics, config.max_images, config.max_image_pixels
        )
        models = services.ModelService(self._manager, calls, root)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if config.enable_reflection:
            from grpc_reflection.v1alpha import reflection
            from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401  (described)

            names = (*SERVICES[1:], health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._grpc)
        self._monitoring = settings.monitoring(config)
        self._listen(settings.server_credentials(config.ssl_config_file))
        await self._manager.set_configs(configs)
        if not self._manager.ready():
            raise InputError(f"no version could be loaded of {[c.base_path for c in configs]}; the log says why")
        if config.rest_api_port >= 0:
            await self._start_http(calls, prediction, models)
        await self._grpc.start()
        self._answering = True
        self._watching = asyncio.create_task(self._manager.watch())
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def _listen(self, credentials: grpc.ServerCredentials | None) -> None:
        """Takes the gRPC port; raises InputError when it is taken, or the certificate is wrong."""
        config = self._config
        address = f"{hosts.bracketed(config.host)}:{config.port}"
        try:
            if credentials:
                self.port = self._grpc.add_secure_port(address, credentials)
            else:
                self.port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            # gRPC says the same of both.
            if credentials and _is_free(config.host, config.port):
                raise InputError(
                    f"`ssl_config_file` {config.ssl_config_file!r}: a text of server_key, server_cert or custom_ca is "
                    "damaged, or the key is not the certificate's. Write them anew from their PEM files."
                ) from None
            raise InputError(f"`port` {config.port} cannot be used on {config.host}: {error}") from None

    async def _start_http(self, calls: Any, prediction: Any, models: Any) -> None:
        """Listens before anything is answered over gRPC: a taken port must not leave half a server."""
        from serving import settings
        from serving.http_server import HttpServer
        from serving.rest import Rest

        config = self._config
        enabled, path = self._monitoring
        self._rest = Rest(
            self._manager,
            calls,
            prediction,
            models,
            self.metrics,
            path if enabled else "",
            lambda: self._answering,
            settings.rest_limits(config),
        )
        try:
            self._http = HttpServer(self._rest.asgi(), config.host, config.rest_api_port)
        except OSError as error:
            raise InputError(
                f"`rest_api_port` {config.rest_api_port} cannot be used on {config.host}: {error}"
            ) from None
        self.http_port = self._http.port
        await self._http.start()

    async def stop(self) -> None:
        """Refuses new requests, answers the open ones and frees everything."""
        end = time.monotonic() + self._config.drain_seconds
        self._answering = False
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._gate.stop()
        self._watching.cancel()
        await self._grpc.stop(self._config.drain_seconds)
        if self.http_port >= 0:
            await self._http.stop(end - time.monotonic())
            self._rest.close()
        await self._manager.drain()
        self._executor.shutdown(wait=True)

    async def _set_health(self, status: int) -> None:
        for service in SERVICES:
            await self._health.set(service, status)


def _is_free(host: str, port: int) -> bool:
    try:
        hosts.listener(host, port).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(run_command(main))
