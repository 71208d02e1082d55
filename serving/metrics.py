"""What the server counts, and the small HTTP page that shows it: Prometheus metrics, liveness, readiness and status."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable

import prometheus_client

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
METRICS_PATH = "/monitoring/prometheus/metrics"


class Metrics:
    """The server's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.requests = prometheus_client.Counter(
            "fer_tf_requests_total",
            "Requests by call, model and status.",
            ["method", "model", "code"],
            registry=self.registry,
        )
        self.latency = prometheus_client.Histogram(
            "fer_tf_request_seconds",
            "Time from a request's arrival to its answer.",
            ["method", "model"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.images = prometheus_client.Counter(
            "fer_tf_images_total", "Images answered.", ["model"], registry=self.registry
        )
        self.batch_size = prometheus_client.Histogram(
            "fer_tf_batch_size", "Images in a batch.", ["model"], buckets=BATCH_BUCKETS, registry=self.registry
        )
        self.open_requests = prometheus_client.Gauge(
            "fer_tf_open_requests", "Requests being answered.", registry=self.registry
        )
        self.versions = prometheus_client.Gauge(
            "fer_tf_version_available", "1 for a version that answers.", ["model", "version"], registry=self.registry
        )
        prometheus_client.ProcessCollector(registry=self.registry)


class StatusPage:
    """An HTTP server in a thread of its own.

    Args:
      host: address to listen on.
      port: port, 0 for any free one.
      metrics: what to show under METRICS_PATH; None hides it.
      ready_fn: whether requests would be answered now.
      status_fn: a model's name to its status as JSON values, or None when there is no such model.
      metrics_path: where the metrics stand.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics | None,
        ready_fn: Callable[[], bool],
        status_fn: Callable[[str], dict | None],
        metrics_path: str = METRICS_PATH,
    ) -> None:
        def page(path: str) -> tuple[int, str, bytes]:
            if path == "/healthz":
                return 200, "text/plain", b"alive\n"
            if path == "/readyz":
                return (200, "text/plain", b"ready\n") if ready_fn() else (503, "text/plain", b"not ready\n")
            if metrics is not None and path == metrics_path:
                return 200, prometheus_client.CONTENT_TYPE_LATEST, prometheus_client.generate_latest(metrics.registry)
            status = status_fn(path.removeprefix("/v1/models/")) if path.startswith("/v1/models/") else None
            if status is not None:
                return 200, "application/json", json.dumps(status, indent=1).encode()
            return 404, "text/plain", b"not found\n"

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                code, kind, body = page(self.path.split("?", 1)[0])
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="status-page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
