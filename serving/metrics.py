"""What the server counts, for Prometheus."""

from __future__ import annotations

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
