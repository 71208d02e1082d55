"""A Flink on this machine for the Beam commands: `python -m cluster.flink` starts it, prints the flags and waits.

Processes: a job manager, task managers and Beam's job server, all on loopback; task managers start Python workers. The
jars come from Maven Central (cluster/pom.xml) and are kept in `.cluster/jars`. docs/cluster.md says how the parts fit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError, check_least

ROOT = Path(__file__).parent.parent
POM = Path(__file__).parent / "pom.xml"
JARS_COMPLETE = "COMPLETE"
JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# Flink 1.19 reaches into these packages, which Java 17 closes.
OPENED = ("lang", "lang.reflect", "net", "io", "nio", "text", "time", "util", "util.concurrent")
JAVA = 17
FETCH_SECONDS, START_SECONDS = 600, 120


class MissingTool(InputError):
    """Java, Maven or the jars cannot be had here; the message says what to install."""


@dataclass(frozen=True)
class FlinkConfig:
    """Starts a Flink cluster on loopback for the Beam commands and stops it at Ctrl-C.

    Attributes:
      task_managers: Flink worker processes; 0 fetches the jars and makes the job server's jar alone.
      slots: tasks that a task manager runs at once.
      folder: where jars, logs and Flink's temporary files go.
      restarts: how often a job restarts after a task failed before it is given up.
      maven: the Maven program that fetches the jars.
    """

    task_managers: int = 2
    slots: int = 1
    folder: str = ".cluster"
    restarts: int = 6
    maven: str = "mvn"

    def __post_init__(self) -> None:
        check_least(self, task_managers=0, slots=1, restarts=0)


def fetch_jars(folder: str | Path, maven: str = "mvn") -> Path:
    """Returns the folder of the job server's and Flink's jars, fetched by Maven on the first call.

    Raises:
      MissingTool: without Java, Maven or a repository that has the jars.
    """
    jars = Path(folder).resolve() / "jars"
    pom = POM.read_text()
    complete = jars / JARS_COMPLETE
    _require("java", "openjdk-17-jre-headless")
    if (version := java_version()) < JAVA:
        raise MissingTool(f"`java` is version {version}; Flink needs {JAVA}: apt-get install openjdk-17-jre-headless.")
    if complete.exists() and complete.read_text() == pom:
        return jars
    _require(maven, "maven")
    shutil.rmtree(jars, ignore_errors=True)
    command = [maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise MissingTool(f"Maven did not fetch the Flink job server ({POM}) within {FETCH_SECONDS} s.") from None
    if done.returncode or not any(jars.glob("beam-runners-flink-*.jar")):
        reason = next((line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line), "no jar came")
        raise MissingTool(f"Maven could not fetch the Flink job server ({POM}): {reason}")
    complete.write_text(pom)
    return jars


def java_version() -> int:
    """Returns the major version of the `java` that is found first, or 0."""
    said = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def _require(tool: str, package: str) -> None:
    if not shutil.which(tool):
        raise MissingTool(f"`{tool}` is not installed; on Debian and Ubuntu: apt-get install {package}.")


def job_server_jar(folder: str | Path, maven: str = "mvn") -> Path:
    """Returns a jar that `--flink_job_server_jar` takes: it names the main class and the other jars, no more."""
    jars = fetch_jars(folder, maven)
    path = jars.parent / "flink-job-server.jar"
    names = sorted(jar.name for jar in jars.glob("*.jar"))
    lines = [
        "Manifest-Version: 1.0",
        f"Main-Class: {JOB_SERVER}",
        "Class-Path: " + " ".join(f"jars/{n}" for n in names),
    ]
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "".join(_folded(line) for line in lines) + "\r\n")
        # It shares the terminal with the build, and Flink tells every step of every task.
        jar.writestr("simplelogger.properties", "org.slf4j.simpleLogger.defaultLogLevel=warn\n")
    return path


def _folded(line: str) -> str:
    """A manifest's line, at most 72 bytes long, its continuations beginning with a blank."""
    parts = [line[:70], *(line[start : start + 69] for start in range(70, len(line), 69))]
    return "\r\n ".join(parts) + "\r\n"


class FlinkCluster:
    """Job manager, task managers and job server, started on entry and stopped on exit.

    Args:
      config: how many, and where.

    Raises:
      MissingTool: when Java, Maven or the jars are missing.
      InputError: when one of the processes does not start.
    """

    def __init__(self, config: FlinkConfig):
        self.config = config
        self.folder = Path(config.folder).resolve()
        self.logs = self.folder / "logs"
        self.processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> FlinkCluster:
        self._jars = fetch_jars(self.folder, self.config.maven)
        self.rpc, self.rest, self.jobs = (_free_port() for _ in range(3))
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.folder / "conf").mkdir(exist_ok=True)
        (self.folder / "conf" / "config.yaml").write_text(self._flink_config())
        self._write_worker_program()
        try:
            conf = ["--configDir", str(self.folder / "conf")]
            self._java("job_manager", 512, [JOB_MANAGER, *conf])
            for number in range(self.config.task_managers):
                self.start_task_manager(number)
            master = ["--flink-master", f"127.0.0.1:{self.rest}", "--job-port", str(self.jobs)]
            others = [
                "--artifact-port",
                "0",
                "--expansion-port",
                "0",
                "--artifacts-dir",
                str(self.folder / "artifacts"),
            ]
            self._java("job_server", 512, [JOB_SERVER, *master, *others])
            self._wait("the job server", lambda: _listens(self.jobs))
            self.wait_for_task_managers(self.config.task_managers)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def flags(self) -> list[str]:
        """Returns the flags that send a Beam command here."""
        return [
            "--runner=FlinkRunner",
            f"--job_endpoint=localhost:{self.jobs}",
            "--environment_type=PROCESS",
            f"--environment_options=process_command={self._worker_program}",
            f"--parallelism={self.config.task_managers * self.config.slots}",
        ]

    def start_task_manager(self, number: int) -> None:
        """Starts one task manager; also one that was killed."""
        conf = ["--configDir", str(self.folder / "conf")]
        self._java(f"task_manager_{number}", 768, [TASK_MANAGER, *conf])

    def kill_task_manager(self, number: int) -> None:
        """Kills a task manager as a machine's failure would, without a word to anyone."""
        process = self.processes.pop(f"task_manager_{number}")
        process.kill()
        process.wait()

    def wait_for_task_managers(self, count: int) -> None:
        """Returns when Flink counts at least so many task managers."""
        self._wait(f"{count} task managers", lambda: self.overview()["taskmanagers"] >= count)

    def overview(self) -> dict[str, Any]:
        """Returns Flink's own summary: task managers, slots, jobs."""
        return self._get("overview")

    def jobs_seen(self) -> list[dict[str, Any]]:
        """Returns Flink's details of every job since the start, oldest first."""
        jobs = [self._get(f"jobs/{job['id']}") for job in self._get("jobs")["jobs"]]
        return sorted(jobs, key=lambda job: job["start-time"])

    def failures(self, job: dict[str, Any]) -> list[str]:
        """Returns the names of the failures that a job went through, newest first."""
        history = self._get(f"jobs/{job['jid']}/exceptions")["exceptionHistory"]
        return [entry["exceptionName"] for entry in history["entries"]]

    def workers(self) -> list[int]:
        """Returns the process ids of the Python workers that the task managers run now."""
        found = []
        for name, process in self.processes.items():
            if name.startswith("task_manager"):
                for path in Path(f"/proc/{process.pid}/task").glob("*/children"):
                    found += [int(pid) for pid in path.read_text().split()]
        return sorted(found)

    def stop(self) -> None:
        """Ends every process that was started here."""
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        shutil.rmtree(self.folder / "artifacts", ignore_errors=True)

    def _get(self, path: str) -> Any:
        # No proxy: the cluster is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.rest}/{path}", timeout=20) as answer:
            return json.load(answer)

    def _java(self, name: str, heap_mb: int, arguments: list[str]) -> None:
        opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENED]
        options = [f"-Xmx{heap_mb}m", "-Dorg.slf4j.simpleLogger.showDateTime=true", *opens]
        self._start(name, ["java", *options, "-cp", f"{self._jars}/*", *arguments])

    def _write_worker_program(self) -> None:
        # Task managers start one program for each worker, so it gets one that runs this project's interpreter.
        self._worker_program = self.folder / "worker"
        self._worker_program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cluster.worker "$@"\n')
        self._worker_program.chmod(0o755)

    def _start(self, name: str, command: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with open(self.logs / f"{name}.log", "ab") as log:
            # A process group of their own keeps Ctrl-C from ending them in the wrong order.
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True
            )

    def _wait(self, what: str, ready_fn: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                if ready_fn():
                    return
            except OSError:
                pass
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise InputError(f"{name} ended with code {process.returncode}; see {self.logs / name}.log.")
            time.sleep(0.5)
        raise InputError(f"{what} did not start within {START_SECONDS} s; see the logs in {self.logs}.")

    def _flink_config(self) -> str:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        values = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self.rpc,
            "jobmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.port": self.rest,
            "rest.bind-address": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": self.config.slots,
            "io.tmp.dirs": temporary,
            # A lost task manager is noticed after seconds, and costs the tasks that it ran.
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 10000,
            # The task managers have the job's classes already: loading them anew for every job takes long.
            "classloader.resolve-order": "parent-first",
            # Longer and longer: until a lost task manager's heartbeat is missed, tasks are still sent to it.
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "1 s",
            "restart-strategy.exponential-delay.backoff-multiplier": 3.0,
            "restart-strategy.exponential-delay.max-backoff": "30 s",
            "restart-strategy.exponential-delay.attempts-before-reset-backoff": self.config.restarts,
            # Flink's start scripts compute these; without the scripts they must be named.
            "taskmanager.cpu.cores": float(self.config.slots),
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.task.heap.size": "384m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.managed.size": "256m",
            "taskmanager.memory.network.min": "64m",
            "taskmanager.memory.network.max": "64m",
            "taskmanager.memory.jvm-metaspace.size": "192m",
            "taskmanager.memory.jvm-overhead.min": "128m",
            "taskmanager.memory.jvm-overhead.max": "128m",
        }
        return "".join(f"{key}: {value}\n" for key, value in values.items())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    config, _ = parse(FlinkConfig, argv, prog="python -m cluster.flink", description=__doc__)
    jar = job_server_jar(config.folder, config.maven)
    print(f"Flink inside the job server: --runner=FlinkRunner --flink_job_server_jar={jar}")
    if not config.task_managers:
        return EXIT_OK
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with FlinkCluster(config) as cluster:
        print(
            f"{config.task_managers} task managers run, http://127.0.0.1:{cluster.rest}/overview; "
            f"logs in {cluster.logs}"
        )
        print("python -m beam_pipelines.build", *cluster.flags(), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping", flush=True)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
