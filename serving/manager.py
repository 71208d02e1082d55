"""Watches the models' folders: loads what appears, swaps it in, lets the old versions finish their requests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from fer_tf.run_folder import GRAPH_FILE
from serving.export import versions
from serving.loaded import LoadedVersion
from serving.metrics import Metrics
from serving.tensors import RequestError

logger = logging.getLogger(__name__)
State = get_model_status_pb2.ModelVersionStatus.State
LoadFn = Callable[[str, int, str], LoadedVersion]


@dataclass
class _Model:
    config: model_server_config_pb2.ModelConfig
    loaded: dict[int, LoadedVersion] = field(default_factory=dict)
    states: dict[int, int] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    # What a version's files looked like when it failed: it is tried again when they change.
    failed: dict[int, frozenset[tuple[str, int, int]]] = field(default_factory=dict)
    draining: set[asyncio.Task] = field(default_factory=set)


class ModelManager:
    """The models that the server offers; belongs to one event loop.

    Args:
      load_fn: model name, version and folder to a LoadedVersion; called in a thread.
      metrics: where available versions are shown.
      poll_s: seconds between two looks at the folders.
    """

    def __init__(self, load_fn: LoadFn, metrics: Metrics, poll_s: float) -> None:
        self._load_fn = load_fn
        self._metrics = metrics
        self._poll_s = poll_s
        self._models: dict[str, _Model] = {}
        self._loader = ThreadPoolExecutor(1, "loader")
        self._scanning = asyncio.Lock()

    async def set_configs(self, configs: list[model_server_config_pb2.ModelConfig]) -> None:
        """Serves exactly these models; returns when their versions are loaded.

        Raises:
          RequestError: FAILED_PRECONDITION when none of a model's versions can be loaded; then all stays as it was.
        """
        wanted = {config.name: config for config in configs}
        async with self._scanning:
            # A server that starts has nothing to lose; one that serves gives nothing up for what does not load.
            staged = await self._stage(wanted) if self._models else {}
            for name in set(self._models) - set(wanted):
                model = self._models.pop(name)
                for version in list(model.loaded):
                    self._retire(name, model, version)
            for name, config in wanted.items():
                if name in self._models:
                    if self._models[name].config.base_path != config.base_path:
                        self._models[name].failed.clear()
                    self._models[name].config = config
                else:
                    self._models[name] = _Model(config)
            await self._scan(staged)

    async def _stage(self, wanted: dict[str, model_server_config_pb2.ModelConfig]) -> dict[str, LoadedVersion]:
        """Loads, by folder, a version of each model that has none loaded from the folder it is to be served from."""
        staged: dict[str, LoadedVersion] = {}
        for name, config in wanted.items():
            versions = await asyncio.to_thread(versions_to_serve, config)
            folders = {version: os.path.join(config.base_path, str(version)) for version in versions}
            known = self._models[name].loaded.values() if name in self._models else ()
            if {loaded.version_dir for loaded in known} & set(folders.values()):
                continue
            reasons = []
            for version, folder in folders.items():
                try:
                    staged[folder] = await self._load_version(name, version, folder)
                    break
                except Exception as error:
                    reasons.append(f"version {version}: {str(error)[:500]}")
            else:
                raise RequestError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"{name!r} has no version that can be loaded from {config.base_path!r}; nothing was changed. "
                    + "; ".join(reasons),
                )
        return staged

    async def watch(self) -> None:
        """Looks for new versions until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.scan()
            except Exception:
                logger.exception("looking for new versions failed; trying again in %s s", self._poll_s)

    async def scan(self) -> None:
        """Loads and retires versions until each model serves what its policy asks for."""
        async with self._scanning:
            await self._scan({})

    async def _scan(self, staged: dict[str, LoadedVersion]) -> None:
        for name, model in list(self._models.items()):
            wanted = await asyncio.to_thread(versions_to_serve, model.config)
            for version in wanted:
                await self._load(name, model, version, staged)
            # An old version goes only when a newer one answers: a broken export takes nothing down.
            available = [version for version in wanted if version in model.loaded]
            if available:
                for version in set(model.loaded) - set(available):
                    self._retire(name, model, version)

    async def _load_version(self, name: str, version: int, folder: str) -> LoadedVersion:
        def load() -> LoadedVersion:
            loaded = self._load_fn(name, version, folder)
            loaded.warm_up()
            return loaded

        return await asyncio.get_running_loop().run_in_executor(self._loader, load)

    async def _load(self, name: str, model: _Model, version: int, staged: dict[str, LoadedVersion]) -> None:
        folder = os.path.join(model.config.base_path, str(version))
        current = model.loaded.get(version)
        if current and current.version_dir == folder:
            return
        stamp = await asyncio.to_thread(_stamp, folder)
        if model.failed.get(version) == stamp:
            return
        model.states[version] = State.LOADING
        start = time.monotonic()

        try:
            loaded = staged[folder] if folder in staged else await self._load_version(name, version, folder)
        except Exception as error:
            logger.error("%s version %d cannot be loaded: %s", name, version, error)
            model.failed[version] = stamp
            model.errors[version] = str(error)[:500]
            model.states[version] = State.END if version not in model.loaded else State.AVAILABLE
            return
        if current:
            self._retire(name, model, version)
        model.failed.pop(version, None)
        model.errors.pop(version, None)
        model.loaded[version] = loaded
        model.states[version] = State.AVAILABLE
        self._metrics.versions.labels(name, str(version)).set(1)
        logger.info("%s version %d is available after %.1f s", name, version, time.monotonic() - start)

    def _retire(self, name: str, model: _Model, version: int) -> None:
        """Gives a version no further request and frees it when the open ones are answered."""
        loaded = model.loaded.pop(version)
        model.states[version] = State.UNLOADING
        self._metrics.versions.labels(name, str(version)).set(0)

        async def drain() -> None:
            await loaded.drain()
            if version not in model.loaded:
                model.states[version] = State.END
            logger.info("%s version %d is unloaded", name, version)
            # TensorFlow's graphs hold cycles; without this the weights stay until the next collection.
            await asyncio.to_thread(gc.collect)

        task = asyncio.create_task(drain())
        model.draining.add(task)
        task.add_done_callback(model.draining.discard)

    def knows(self, name: str) -> bool:
        """Whether there is a model of this name."""
        return name in self._models

    def find(self, spec: model_pb2.ModelSpec) -> LoadedVersion:
        """Returns the version that a request asks for: by number, by label, or the newest (0 is the newest too).

        Raises:
          RequestError: NOT_FOUND when there is none; UNAVAILABLE before the first version is loaded.
        """
        model = self._model(spec.name)
        choice = _choice(spec, model)
        if choice == "version_label":
            if spec.version_label not in model.config.version_labels:
                raise RequestError(grpc.StatusCode.NOT_FOUND, f"{spec.name} has no label {spec.version_label!r}")
            version = model.config.version_labels[spec.version_label]
        elif choice == "version":
            version = spec.version.value
        elif model.loaded:
            version = max(model.loaded)
        else:
            raise RequestError(grpc.StatusCode.UNAVAILABLE, f"{spec.name} has no version that answers yet")
        if version not in model.loaded:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"{spec.name} has no version {version}")
        return model.loaded[version]

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of a model's versions, or of the one that is asked for."""
        model = self._model(spec.name)
        if _choice(spec, model):
            version = self.find(spec).version if spec.version_label else spec.version.value
            if version not in model.states:
                raise RequestError(grpc.StatusCode.NOT_FOUND, f"{spec.name} has no version {version}")
            numbers = [version]
        else:
            numbers = sorted(model.states, reverse=True)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in numbers:
            entry = response.model_version_status.add(version=version, state=model.states[version])
            entry.status.SetInParent()
            if version in model.errors:
                entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                entry.status.error_message = model.errors[version]
        return response

    def ready(self) -> bool:
        """Whether every model has a version that answers."""
        return bool(self._models) and all(model.loaded for model in self._models.values())

    async def drain(self) -> None:
        """Returns when no version has an open request."""
        for model in self._models.values():
            for loaded in list(model.loaded.values()):
                await loaded.drain()
            await asyncio.gather(*model.draining)
        self._loader.shutdown(wait=False)

    def _model(self, name: str) -> _Model:
        if name not in self._models:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"no model {name!r}; there are {sorted(self._models)}")
        return self._models[name]


def _choice(spec: model_pb2.ModelSpec, model: _Model) -> str | None:
    """How a request names its version; some clients say 0 where they mean none."""
    choice = spec.WhichOneof("version_choice")
    zero = choice == "version" and not spec.version.value and 0 not in model.states
    return None if zero else choice


def versions_to_serve(config: model_server_config_pb2.ModelConfig) -> list[int]:
    """Returns the versions in the model's folder that its policy asks for, newest first."""
    return _wanted(_versions_on_disk(config.base_path), config)


def _versions_on_disk(base_path: str) -> list[int]:
    return [v for v in versions(base_path) if os.path.exists(os.path.join(base_path, str(v), GRAPH_FILE))]


def _wanted(found: list[int], config: model_server_config_pb2.ModelConfig) -> list[int]:
    """The versions to serve by the model's policy, newest first."""
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        wanted = found
    elif kind == "specific":
        wanted = [version for version in found if version in policy.specific.versions]
    else:
        wanted = found[-(policy.latest.num_versions or 1) :]
    return sorted(wanted, reverse=True)


def _stamp(folder: str) -> frozenset[tuple[str, int, int]]:
    """Each file below the folder with its time and size: a slow copy may bring the graph before the weights."""
    found = set()
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            # It may be gone already, as a copy's passing names are.
            with contextlib.suppress(OSError):
                facts = os.stat(path)
                found.add((path, facts.st_mtime_ns, facts.st_size))
    return frozenset(found)
