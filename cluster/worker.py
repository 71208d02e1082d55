#!/usr/bin/env python
"""The program that a Flink task manager, or Beam's worker pool, starts for every worker: `python -m cluster.worker`.

Beam's own containers hold a Go program for this, which no package registry has; this does the part of it that a
machine with the project installed needs: ask the runner for the pipeline's options, then run Beam's Python harness.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one worker until its runner hangs up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--id", required=True, help="the worker's name, given by the runner")
    for name in ("provision", "control", "logging", "artifact"):
        parser.add_argument(f"--{name}_endpoint", default="", help=f"HOST:PORT of the runner's {name} service")
    flags, _ = parser.parse_known_args(argv)

    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
    from google.protobuf import json_format

    metadata = (("worker_id", flags.id),)
    with grpc.insecure_channel(flags.provision_endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        info = service.GetProvisionInfo(request, metadata=metadata, timeout=60).info
    control = info.control_endpoint.url or flags.control_endpoint
    logs = info.logging_endpoint.url or flags.logging_endpoint
    os.environ |= {
        "WORKER_ID": flags.id,
        "PIPELINE_OPTIONS": json.dumps(json_format.MessageToDict(info.pipeline_options)),
        "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{control}"',
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if logs:
        os.environ["LOGGING_API_SERVICE_DESCRIPTOR"] = f'url: "{logs}"'

    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])
    return 0


if __name__ == "__main__":
    sys.exit(main())
