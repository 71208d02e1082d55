"""The page's addresses. Everything of a person lies below that person's secret link; nothing comes from elsewhere."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from fer_tf.data.ballots import CANNOT_TELL
from serving.review.lead import LeadPages
from serving.review.playback import Playable, Playback
from serving.review.store import FIRST, SECOND, Conflict, Vote
from serving.review.study import Study, pace

MAX_BODY_BYTES = 16_384
MAX_REMARK = 2_000
# What is left of a sign outside the first 65,536 when a program cuts a text inside it.
_HALF_PAIRS = re.compile("[\ud800-\udfff]")
# Clips that are made playable before the reviewer comes to them.
AHEAD = 3
HERE = Path(__file__).parent
PAGES = {"page.js": "text/javascript", "page.css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # The link is the key: no other site may learn it.
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class ReviewApp:
    """What each address answers.

    Args:
      study: clips, reviewers and votes.
      playback: makes clips playable.
      show_label: whether reviewers see the intended expression.
      show_person: whether reviewers see the person's name.
    """

    def __init__(self, study: Study, playback: Playback, *, show_label: bool = False, show_person: bool = False):
        self._study, self._playback = study, playback
        self._show_label, self._show_person = show_label, show_person

    def asgi(self) -> Starlette:
        """Returns the application for an ASGI server."""
        reviewer = "/r/{token}"
        routes = [
            Route(f"{reviewer}/", self._page),
            Route(f"{reviewer}/state", self._state),
            Route(f"{reviewer}/vote", self._vote, methods=["POST"]),
            Route(f"{reviewer}/undo", self._undo, methods=["POST"]),
            Route(f"{reviewer}/clip/{{code}}", self._clip),
            Route(f"{reviewer}/clip/{{code}}/playable", self._playable),
            Route("/page/{name}", _static),
            *LeadPages(self._study, self._playback).routes(),
        ]
        return Starlette(routes=routes, middleware=[Middleware(_Headers)], exception_handlers={HTTPException: _refusal})

    async def _page(self, request: Request) -> Response:
        self._reviewer(request)
        return FileResponse(HERE / "page.html", media_type="text/html")

    async def _state(self, request: Request) -> Response:
        reviewer, round = self._reviewer(request), _round(request.query_params.get("round"))
        return JSONResponse(await run_in_threadpool(self._situation, reviewer, round))

    async def _vote(self, request: Request) -> Response:
        reviewer, said = self._reviewer(request), await _body(request)
        round = _round(said.get("round"))
        clip = self._known_clip(said.get("clip"))
        choice, remark, name = said.get("choice"), said.get("remark", ""), said.get("request")
        if choice not in (*self._study.labels, CANNOT_TELL):
            raise HTTPException(400, f"`choice` {choice!r} is none of the expressions")
        if not isinstance(remark, str) or len(remark) > MAX_REMARK:
            raise HTTPException(400, f"`remark` must be text of at most {MAX_REMARK} characters")
        # UTF-8, as which the store keeps it, has no half pairs.
        remark = _HALF_PAIRS.sub("\ufffd", remark).strip()
        if not isinstance(name, str) or not 8 <= len(name) <= 64 or not name.isascii():
            raise HTTPException(400, "`request` must be a text of 8 to 64 characters of ASCII")
        seen = said.get("seen", 0)
        if not isinstance(seen, int):
            raise HTTPException(400, "`seen` must be the number of a vote")

        def cast() -> Vote:
            if round == SECOND and not (self._study.store.second_round and clip.clip_id in self._study.disputed()):
                raise Conflict("this clip is not open for discussion")
            return self._study.store.cast(
                reviewer, clip.clip_id, choice, request=name, remark=remark, round=round, seen=seen
            )

        return await self._act(cast, reviewer, round)

    async def _undo(self, request: Request) -> Response:
        reviewer, said = self._reviewer(request), await _body(request)
        round = _round(said.get("round"))
        if not isinstance(said.get("vote"), int):
            raise HTTPException(400, "`vote` must be the number of a vote")
        return await self._act(lambda: self._study.store.withdraw(reviewer, said["vote"], round), reviewer, round)

    async def _act(self, action: Callable[[], Vote], reviewer: str, round: int) -> Response:
        """Does something to the votes and answers with how things stand then."""

        def act() -> dict[str, Any]:
            vote = action()
            return {"saved": self._spoken(vote), **self._situation(reviewer, round, vote.clip)}

        try:
            return JSONResponse(await run_in_threadpool(act))
        except Conflict as conflict:
            standing = self._spoken(conflict.standing) if conflict.standing else None
            situation = await run_in_threadpool(self._situation, reviewer, round)
            return JSONResponse({"problem": str(conflict), "standing": standing, **situation}, status_code=409)

    async def _playable(self, request: Request) -> Response:
        self._reviewer(request)
        found = await run_in_threadpool(self._find, request)
        return JSONResponse(
            {
                "state": found.state,
                "share": found.share,
                "type": found.media_type,
                "problem": found.problem,
                "passing": found.again is not None,
            }
        )

    async def _clip(self, request: Request) -> Response:
        self._reviewer(request)
        found = await run_in_threadpool(self._find, request)
        if found.state != "ready":
            raise HTTPException(404, found.problem or "the clip is still being made playable")
        # Answers ranges: a browser seeks and loops with them. No file name is sent.
        return FileResponse(found.path, media_type=found.media_type, headers={"cache-control": "private, max-age=3600"})

    def _find(self, request: Request) -> Playable:
        clip = self._known_clip(request.path_params["code"])
        form = request.query_params.get("form", "")
        if form not in ("", "mp4", "webm"):
            raise HTTPException(400, f"`form` must be mp4 or webm. Received: {form!r}.")
        return self._playback.find(clip.clip_id, self._study.code(clip.clip_id), form=form)

    def _known_clip(self, code: Any) -> Any:
        clip = self._study.clip_of(code) if isinstance(code, str) else None
        if clip is None:
            raise HTTPException(404, "no such clip")
        return clip

    def _reviewer(self, request: Request) -> str:
        """Returns whose link it is; every name is compared, so that the time tells nothing."""
        token, found = request.path_params["token"].encode(), ""
        for name, known in self._study.store.reviewers().items():
            if hmac.compare_digest(known.encode(), token) and name in self._study.reviewers:
                found = name
        if not found:
            raise HTTPException(404, "this link is not known; ask who runs the study for yours")
        return found

    def _situation(self, reviewer: str, round: int, first: str = "") -> dict[str, Any]:
        """All that the reviewer's page shows; `first` comes before the others where it is still to be answered."""
        study = self._study
        second_open = study.store.second_round
        # Nobody sees votes before the second round is open.
        round = round if second_open else FIRST
        left, answered = study.left(reviewer, round)
        left.sort(key=lambda clip_id: clip_id != first)
        other = study.left(reviewer, SECOND if round == FIRST else FIRST) if second_open else ([], [])
        for clip_id in left[:AHEAD]:
            self._playback.find(clip_id, study.code(clip_id), urgent=False)
        seconds = pace(answered)
        return {
            "reviewer": reviewer,
            "round": round,
            "second_round_open": second_open,
            "labels": [{"name": name, "key": key} for name, key in zip(study.labels, study.keys, strict=True)],
            "cannot_tell": CANNOT_TELL,
            "done": len(answered),
            "total": len(answered) + len(left),
            "left_in_other_round": len(other[0]),
            "seconds_left": round_up(seconds * len(left)) if seconds and left else None,
            "clip": self._described(left[0], round) if left else None,
            "next": [study.code(clip_id) for clip_id in left[1:2]],
            # First votes stand once others have seen them.
            "last": self._spoken(answered[-1]) if answered and (round == SECOND or not second_open) else None,
        }

    def _described(self, clip_id: str, round: int) -> dict[str, Any]:
        clip = self._study.clips[clip_id]
        told: dict[str, Any] = {"code": self._study.code(clip_id)}
        if self._show_label:
            told["label"] = clip.expression
        if self._show_person:
            told["person"] = clip.person
        if round == SECOND:
            votes = self._study.votes_on(clip_id)
            told["votes"] = [
                {"reviewer": name, "choice": votes[name].choice, "remark": votes[name].remark}
                for name in self._study.reviewers
                if name in votes
            ]
        return told

    def _spoken(self, vote: Vote) -> dict[str, Any]:
        """What a reviewer's own vote looks like to the page."""
        return {"id": vote.id, "clip": self._study.code(vote.clip), "choice": vote.choice, "remark": vote.remark}


def round_up(seconds: float) -> int:
    """Returns whole seconds, of at least one."""
    return max(1, round(seconds))


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in PAGES:
        raise HTTPException(404, "no such page")
    return FileResponse(HERE / name, media_type=PAGES[name])


def _round(text: Any) -> int:
    try:
        number = int(text or FIRST)
    except (TypeError, ValueError):
        number = 0
    if number not in (FIRST, SECOND):
        raise HTTPException(400, f"`round` must be {FIRST} or {SECOND}. Received: {text!r}.")
    return number


async def _body(request: Request) -> dict[str, Any]:
    """Reads a request's JSON, no more than is allowed of it."""
    content = b""
    async for block in request.stream():
        content += block
        if len(content) > MAX_BODY_BYTES:
            raise HTTPException(413, f"a request has at most {MAX_BODY_BYTES} bytes")
    try:
        said = json.loads(content)
    except ValueError:
        raise HTTPException(400, "the request is no JSON") from None
    if not isinstance(said, dict):
        raise HTTPException(400, "the request must be a JSON object")
    return said


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"problem": error.detail}, status_code=error.status_code)


class _Headers:
    """Adds the content policy to every answer, and keeps answers about votes out of caches."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        async def with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in names)]
            await send(message)

        await self._app(scope, receive, with_headers)
