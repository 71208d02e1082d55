"""What the environment says to this project, checked as flags are: its variables are read here alone.

What it says to TensorFlow, Gradio and others stands where these are started.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fer_tf.errors import InputError, not_one_of

PUBLIC_VARIABLE = "FER_TF_PUBLIC"
# The jobs of a cluster whose workers train together.
JOBS = ("chief", "worker")
# HOST:PORT; an IPv6 address stands in brackets.
_ADDRESS = re.compile(r"(\[[^\[\]\s]+\]|[^\s/:\[\]]+):([0-9]{1,5})")


@dataclass(frozen=True)
class Workers:
    """The workers that TF_CONFIG names.

    Attributes:
      count: how many; 1 without TF_CONFIG.
      number: this one's number; 0 is the chief.
    """

    count: int = 1
    number: int = 0

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Workers:
        """Returns what TF_CONFIG says; raises InputError when TensorFlow could not use it."""
        text = (os.environ if environ is None else environ).get("TF_CONFIG", "").strip()
        if not text:
            return cls()
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise _bad(f"is no JSON: {error.msg} at character {error.pos + 1}", text) from None
        except RecursionError:
            raise _bad("is no JSON that can be read: its brackets are nested too deep", text) from None
        for field in _object(value, "", text):
            # TensorFlow would overlook it, and each machine would train alone.
            if field not in ("cluster", "task") and field.strip().lower() in ("cluster", "task"):
                raise _bad(f"field `{field}` must be written `{field.strip().lower()}`", text)
        cluster = value.get("cluster", {})
        jobs = {name: _addresses(name, places, text) for name, places in _object(cluster, "cluster", text).items()}
        _check_jobs(jobs, text)
        count = sum(map(len, jobs.values()))
        if count < 2 and "task" not in value:
            return cls()
        task = _object(value.get("task", {}), "task", text)
        return cls(max(1, count), _number(task, jobs, count, text))


def _object(value: Any, field: str, text: str) -> dict:
    if not isinstance(value, dict):
        raise _bad(f"{f'field `{field}` ' if field else ''}must be an object such as {{...}}", text)
    return value


def _addresses(job: str, places: Any, text: str) -> list[str]:
    if not isinstance(places, list) or not places:
        raise _bad(f"field `cluster.{job}` must be a list of HOST:PORT", text)
    for place in places:
        address = _ADDRESS.fullmatch(place) if isinstance(place, str) else None
        if not address or not 0 < int(address[2]) < 65536:
            raise _bad(f"field `cluster.{job}` must name HOST:PORT; {place!r} is none", text)
    return places


def _check_jobs(jobs: Mapping[str, list[str]], text: str) -> None:
    for name in jobs:
        if name not in JOBS:
            raise not_one_of("TF_CONFIG's cluster", name, JOBS, "only workers that train together are supported")
    if len(jobs.get("chief", [])) > 1:
        raise _bad(f"names {len(jobs['chief'])} chiefs; there is one", text)
    every = [place for places in jobs.values() for place in places]
    twice = sorted({place for place in every if every.count(place) > 1})
    if twice:
        raise _bad(f"names {twice[0]!r} twice", text)


def _number(task: Mapping[str, Any], jobs: Mapping[str, list[str]], count: int, text: str) -> int:
    if count < 2 and not (task and jobs):
        return 0
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in jobs:
        raise _bad(f"field `task.type` must be one of {tuple(jobs)}, it is {kind!r}", text)
    if isinstance(index, str) and index.isascii() and index.isdigit():
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(jobs[kind]):
        raise _bad(f"field `task.index` must be a number from 0 to {len(jobs[kind]) - 1}, it is {index!r}", text)
    return index + (len(jobs.get("chief", [])) if kind == "worker" else 0)


def _bad(what: str, text: str) -> InputError:
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return InputError(
        f"the environment's TF_CONFIG {what}. Received: {shown} (unset it to train on this machine alone)."
    )


def public_folder(default: str) -> str:
    """Returns where public sets become records: what FER_TF_PUBLIC names, else the default."""
    return os.environ.get(PUBLIC_VARIABLE) or default


def model_folder(default: str) -> str:
    """Returns where a hosted trainer wants the run (AIP_MODEL_DIR), else the default."""
    return os.environ.get("AIP_MODEL_DIR") or default


def log_folder() -> str:
    """Returns where a hosted trainer wants TensorBoard's logs (AIP_TENSORBOARD_LOG_DIR); empty on any other machine."""
    return os.environ.get("AIP_TENSORBOARD_LOG_DIR", "")


def check_keras() -> None:
    """Raises InputError when Keras would run on another library than TensorFlow; call before it is imported."""
    backend = os.environ.get("KERAS_BACKEND", "")
    if backend not in ("", "tensorflow"):
        raise not_one_of("the environment's KERAS_BACKEND", backend, ("tensorflow",), "unset it")
