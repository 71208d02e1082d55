"""The reviewers' page served in this process, and asked as a browser asks: for its tests and its benchmark."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import uvicorn

from serving.review.app import ReviewApp
from serving.review.playback import Playback
from serving.review.store import Store
from serving.review.study import Study, StudyOptions


class Served:
    """A study behind a real server in this process.

    Args:
      options: the study's options.
      folder: where its votes and copies are.
      flags: what the reviewers are told.
    """

    def __init__(self, options: StudyOptions, folder: Path, **flags: bool):
        self.store = Store(str(folder / "votes.sqlite3"))
        self.study = Study(options, self.store)
        self.playback = Playback(options.videos_root, str(folder / "clips"))
        app = ReviewApp(self.study, self.playback, **flags).asgi()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def link(self, reviewer: str) -> str:
        return f"{self.address}/r/{self.store.reviewers()[reviewer]}/"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()
        self.playback.close()
        self.store.close()


def ask(address: str, said: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Returns the status and the JSON of an answer."""
    content = said if isinstance(said, bytes) or said is None else json.dumps(said).encode()
    request = urllib.request.Request(address, content, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def vote(link: str, choice: str, state: dict[str, Any] | None = None, **more: Any) -> tuple[int, Any]:
    """Answers the clip that the link shows now."""
    state = state or ask(f"{link}state")[1]
    said = {"clip": state["clip"]["code"], "choice": choice, "round": state["round"], "request": os.urandom(8).hex()}
    return ask(f"{link}vote", {**said, **more})


def playable(link: str, code: str, form: str = "") -> dict[str, Any]:
    """Waits until the clip can be played or cannot."""
    end = time.monotonic() + 60
    while True:
        _, told = ask(f"{link}clip/{code}/playable{f'?form={form}' if form else ''}")
        if told["state"] in ("ready", "failed"):
            return told
        assert time.monotonic() < end, told
        time.sleep(0.1)
