"""What the containers are started with is what the commands know; the manifest is one that Kubernetes takes."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fer_tf import config
from serving.config import ServerConfig
from serving.demo import DemoConfig
from trainer.config import TaskConfig

ROOT = Path(__file__).parent.parent
OPTIONS = {"serving.server": ServerConfig, "serving.demo": DemoConfig, "trainer.task": TaskConfig}
KUBERNETES = ("1.28", "1.33")


def stages() -> dict[str, dict[str, str]]:
    """The Dockerfile's instructions by target; a stage has those of the one that it begins with too."""
    found: dict[str, dict[str, str]] = {}
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.split()
            found[name] = stage = dict(found.get(base, {}))
        elif word.isupper() and found:
            stage[word] = rest
    return found


def reaches_docker(path: Path) -> bool:
    """Whether .dockerignore lets a file of the repository into the images: the last line that fits it decides."""
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        # A line that names a folder is about all that is in it; a star stands for no slash.
        places = (place for place in (path, *path.parents) if len(place.parts) == pattern.count("/") + 1)
        if line and not line.startswith("#") and any(place.match(pattern) for place in places):
            included = line.startswith("!")
    return included


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "containers" / name).read_text()))


def parsed(entry_point: list[str], flags: list[str]) -> Any:
    """The options of a command line `python -m MODULE FLAGS`, refused when a flag is unknown."""
    assert entry_point[:2] == ["python", "-m"]
    return config.parse(OPTIONS[entry_point[2]], flags, prog="test", description="")[0]


def test_every_image_runs_as_a_user_and_starts_what_there_is() -> None:
    targets = stages()
    for name in ("train", "serve", "worker"):
        assert targets[name]["USER"] == "10001:10001" and "HEALTHCHECK" in targets[name]
    for name in ("train", "serve"):
        parsed(json.loads(targets[name]["ENTRYPOINT"]), json.loads(targets[name]["CMD"]))
    assert importlib.util.find_spec("cluster.check_worker") and "cluster.check_worker" in targets["worker"]["RUN"]


def test_what_is_copied_into_the_images_and_installed_there_is_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    packaged = re.findall(r': "((?:samples|models)[^"]*)"', (ROOT / "setup.py").read_text())
    assert "." in copied and len(packaged) == 3
    for source in {*" ".join(copied).split(), *packaged} - {"."}:
        files = [
            path for path in (ROOT / source, *(ROOT / source).rglob("*")) if path.is_file() and path.suffix != ".pyc"
        ]
        assert files and all(reaches_docker(path.relative_to(ROOT)) for path in files), source
    assert not reaches_docker(Path("models/fa_net/1/saved_model.pb")) and not reaches_docker(Path("runs/a/spec.json"))


def test_the_images_ports_and_health_are_the_servers() -> None:
    serve = stages()["serve"]
    options = parsed(json.loads(serve["ENTRYPOINT"]), json.loads(serve["CMD"]))
    assert serve["EXPOSE"].split() == [str(options.port), str(options.rest_api_port)]
    assert f"127.0.0.1:{options.rest_api_port}/readyz" in serve["HEALTHCHECK"]


def test_compose_starts_the_images_with_flags_that_they_know() -> None:
    (serve,), (train,) = documents("serve.compose.yaml"), documents("train.compose.yaml")
    image = json.loads(stages()["serve"]["CMD"])
    server = parsed(["python", "-m", "serving.server"], image)
    demo = parsed(serve["services"]["demo"]["entrypoint"], serve["services"]["demo"]["command"])
    assert demo.server == f"server:{server.port}"
    assert serve["services"]["server"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in (8500, 8501)]
    assert serve["services"]["demo"]["ports"] == [f"127.0.0.1:{demo.port}:{demo.port}"]
    assert int(serve["services"]["server"]["stop_grace_period"].rstrip("s")) > server.drain_seconds
    trainer = parsed(["python", "-m", "trainer.task"], train["services"]["trainer"]["command"])
    assert f"../{trainer.run.run_dir.split('/')[0]}:/app/runs" in train["services"]["trainer"]["volumes"]
    for services in (serve["services"], train["services"]):
        # The kernel keeps from process 1 the signals that it does not yet handle.
        assert all(service["init"] for service in services.values())
        assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in services.values())


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_manifest_is_one_that_kubernetes_takes(version: str) -> None:
    for document in documents("kubernetes.yaml"):
        kubernetes_validate.validate(document, version, strict=True)
        document["spec"]["no_such_field"] = 1
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(document, version, strict=True)


def test_the_manifests_probes_ports_and_drain_are_the_servers() -> None:
    deployment, service = documents("kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    options = parsed(["python", "-m", "serving.server"], server["args"])
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {"grpc": options.port, "http": options.rest_api_port}
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports
    sources = "".join(path.read_text() for path in (ROOT / "serving").glob("*.py"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'"{server[probe]["httpGet"]["path"]}"' in sources and server[probe]["httpGet"]["port"] == "http"
    wait = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > options.drain_seconds + wait
    assert pod["securityContext"]["runAsUser"] == int(stages()["serve"]["USER"].split(":")[0])
    assert server["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["mountPath"]: mount["name"] for mount in server["volumeMounts"]}
    assert options.model_base_path.startswith("/models/") and set(mounts) == {"/models", "/tmp"}
