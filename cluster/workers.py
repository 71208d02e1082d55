"""Trains on several workers: `python -m cluster.workers --workers=2 -- python -m trainer.task --stage=fa_net ...`.

Starts the command once for each worker with a TF_CONFIG of its own on loopback. When one dies the others cannot go on
without it: all are started again, and the trainer resumes from its last checkpoint. On Kubernetes or a hosted trainer
the platform sets TF_CONFIG and restarts the workers; this is the same on one machine.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_tf.config import EXIT_FAILED, EXIT_OK, EXIT_USAGE, parse, run_command
from fer_tf.errors import InputError, check_least

POLL_SECONDS = 0.2
# A worker that lost another needs some time to notice; it is stopped sooner.
STOP_SECONDS = 10


@dataclass(frozen=True)
class WorkersConfig:
    """Runs a training command on several workers of this machine and restarts it when a worker dies.

    Attributes:
      workers: how many processes share each step; the first is the chief, which alone writes.
      restarts: how often all workers are started again before giving up.
      logs: folder for what the workers but the chief print.
    """

    workers: int = 2
    restarts: int = 3
    logs: str = ".cluster/logs"

    def __post_init__(self) -> None:
        check_least(self, workers=1, restarts=0)


def tf_configs(workers: int) -> list[str]:
    """Returns a TF_CONFIG for each worker, on free ports of this machine."""
    probes = [socket.socket() for _ in range(workers)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    cluster = {"worker": addresses}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(workers)]


def run(config: WorkersConfig, command: Sequence[str]) -> int:
    """Runs the command on all workers until all have finished; returns 0, or the code of one that failed for good."""
    code = EXIT_OK
    for attempt in range(config.restarts + 1):
        processes = _start(config, command)
        try:
            code = _watch(processes)
        finally:
            _stop(processes)
        if code in (EXIT_OK, EXIT_USAGE):
            return code
        print(
            f"a worker ended with code {code}; restart {attempt + 1} of {config.restarts}", file=sys.stderr, flush=True
        )
    return code if code > 0 else EXIT_FAILED


def _start(config: WorkersConfig, command: Sequence[str]) -> list[subprocess.Popen]:
    Path(config.logs).mkdir(parents=True, exist_ok=True)
    processes = []
    for number, tf_config in enumerate(tf_configs(config.workers)):
        environment = {**os.environ, "TF_CONFIG": tf_config}
        if number == 0:
            processes.append(subprocess.Popen(command, env=environment))
            continue
        with open(Path(config.logs) / f"worker_{number}.log", "ab") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    return processes


def _watch(processes: list[subprocess.Popen]) -> int:
    """Returns 0 when all have finished, or the first other code."""
    while True:
        codes = [process.poll() for process in processes]
        if failed := [code for code in codes if code]:
            return failed[0]
        if None not in codes:
            return EXIT_OK
        time.sleep(POLL_SECONDS)


def _stop(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    split = argv.index("--") if "--" in argv else len(argv)
    config, _ = parse(WorkersConfig, argv[:split], prog="python -m cluster.workers", description=__doc__)
    command = argv[split + 1 :]
    if not command:
        raise InputError("no command to run: write it after `--`, such as `-- python -m trainer.task --stage=fa_net`.")
    # Whoever ends this launcher ends its workers too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(config, command)


if __name__ == "__main__":
    sys.exit(run_command(main))
