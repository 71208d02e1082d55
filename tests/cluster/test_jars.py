"""The jars: a missing tool is named with its package, and the job server's jar is one that Java can read."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from cluster import flink
from cluster.flink import MissingTool, java_version
from cluster.workers import main as run_workers
from fer_tf.errors import InputError


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose jars count as fetched."""
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(flink, "java_version", lambda: flink.JAVA)
    jars = tmp_path / "jars"
    jars.mkdir()
    (jars / flink.JARS_COMPLETE).write_text(flink.POM.read_text())
    for number in range(40):
        (jars / f"a-jar-with-a-long-name-{number:02d}-2.62.0.jar").touch()
    return tmp_path


def test_the_job_servers_jar_names_every_jar_in_lines_that_java_reads(fetched: Path) -> None:
    with zipfile.ZipFile(flink.job_server_jar(fetched)) as jar:
        manifest = jar.read("META-INF/MANIFEST.MF")
    lines = manifest.split(b"\r\n")
    assert max(map(len, lines)) <= 72
    unfolded = manifest.decode().replace("\r\n ", "")
    assert "Main-Class: org.apache.beam.runners.flink.FlinkJobServerDriver\r\n" in unfolded
    named = next(line for line in unfolded.split("\r\n") if line.startswith("Class-Path: ")).split()[1:]
    assert named == [f"jars/a-jar-with-a-long-name-{number:02d}-2.62.0.jar" for number in range(40)]


def test_jars_of_another_pom_are_fetched_again(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fetched / "jars" / flink.JARS_COMPLETE).write_text("an older pom")
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "mvn" else tool)
    with pytest.raises(MissingTool, match="`mvn` is not installed; on Debian and Ubuntu: apt-get install maven"):
        flink.fetch_jars(fetched)


def test_without_java_it_is_said_what_to_install(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(MissingTool, match=r"`java` is not installed.*openjdk-17-jre-headless"):
        flink.fetch_jars(fetched)


def test_an_old_java_is_named(fetched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.24\" 2024-07-16' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{java.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(flink, "java_version", java_version)
    with pytest.raises(MissingTool, match="`java` is version 11; Flink needs 17"):
        flink.fetch_jars(fetched)


def test_a_repository_without_the_jars_is_no_crash(
    fetched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (fetched / "jars" / flink.JARS_COMPLETE).unlink()
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] Could not transfer artifact'\nexit 1\n")
    maven.chmod(0o755)
    with pytest.raises(MissingTool, match=r"could not fetch the Flink job server .*: .ERROR. Could not transfer"):
        flink.fetch_jars(fetched, str(maven))


def test_workers_without_a_command_say_how_to_write_one() -> None:
    with pytest.raises(InputError, match="no command to run: write it after `--`"):
        run_workers(["--workers=2"])
