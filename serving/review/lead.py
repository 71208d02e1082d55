"""The page of who runs the study: progress, agreement, what is disputed, the second round and the export."""

from __future__ import annotations

import csv
import datetime
import hmac
import io
import threading
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from fer_tf.data.ballots import CANNOT_TELL, Ballots
from fer_tf.evaluation import agreement
from fer_tf.reports import agreement_section
from fer_tf.reports.page import render
from fer_tf.reports.tables import Cell, Table
from serving.review.playback import Playback
from serving.review.store import FIRST, SECOND, Vote
from serving.review.study import Study, exported, pace

# More clips on one page would not be read.
MOST_SHOWN = 100
# How long a watched clip may take to be made playable.
WATCH_SECONDS = 120.0
# The page's style stands in it, and its form opens the second round; nothing is run and nothing comes from elsewhere.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class LeadPages:
    """What the lead's addresses answer.

    Args:
      study: clips, reviewers and votes.
      playback: makes clips playable.
    """

    def __init__(self, study: Study, playback: Playback):
        self._study, self._playback = study, playback
        self._lock = threading.Lock()
        self._described: tuple[Any, dict[str, Any], dict[str, Any]] | None = None

    def routes(self) -> list[Route]:
        """Returns the addresses, all below the lead's secret link."""
        lead = "/lead/{token}"
        return [
            Route(f"{lead}/", self._page),
            Route(f"{lead}/second_round", self._open_second_round, methods=["POST"]),
            Route(f"{lead}/clip/{{code}}", self._clip),
            Route(f"{lead}/export.csv", self._export),
            Route(f"{lead}/disagreements.csv", self._disagreements),
        ]

    async def _page(self, request: Request) -> Response:
        self._check(request)
        page = await run_in_threadpool(self._render)
        return Response(page, media_type="text/html", headers={"content-security-policy": POLICY})

    async def _open_second_round(self, request: Request) -> Response:
        self._check(request)
        await run_in_threadpool(self._study.store.open_second_round)
        return RedirectResponse("./", status_code=303)

    async def _clip(self, request: Request) -> Response:
        self._check(request)
        clip = self._study.clip_of(request.path_params["code"])
        if clip is None:
            raise HTTPException(404, "no such clip")
        found = await run_in_threadpool(self._wait_for, clip.clip_id, request.path_params["code"])
        if found.state != "ready":
            raise HTTPException(404, found.problem or "the clip is still being made playable")
        return FileResponse(found.path, media_type=found.media_type)

    async def _export(self, request: Request) -> Response:
        self._check(request)
        content, _ = await run_in_threadpool(exported, self._study)
        return _csv(content, "annotations_reviewed.csv")

    async def _disagreements(self, request: Request) -> Response:
        self._check(request)
        return _csv(await run_in_threadpool(self._disagreements_csv), "disagreements.csv")

    def _check(self, request: Request) -> None:
        if not hmac.compare_digest(self._study.store.lead_token.encode(), request.path_params["token"].encode()):
            raise HTTPException(404, "this link is not known")

    def _wait_for(self, clip_id: str, code: str) -> Any:
        end = time.monotonic() + WATCH_SECONDS
        while True:
            found = self._playback.find(clip_id, code)
            if found.state not in ("waiting", "working") or time.monotonic() > end:
                return found
            time.sleep(0.2)

    def _render(self) -> str:
        study = self._study
        first, final = self._agreement()
        disputed = study.disputed()
        return render(
            "review.html",
            clips=len(study.clips),
            time=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
            progress=self._progress(),
            second_round=study.store.second_round,
            agreement=agreement_section.tables(first),
            after=agreement_section.kept(final),
            disputed=len(disputed),
            shown=[self._disagreement(clip_id) for clip_id in disputed[:MOST_SHOWN]],
            problems=self._playback.problems(),
        )

    def _agreement(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describes the first and the final votes, once for each state of the votes."""
        with self._lock:
            revision = self._study.store.revision()
            if self._described is None or self._described[0] != revision:
                rounds = (self._study.standing(FIRST), self._study.final())
                self._described = revision, *(agreement.describe(self._ballots(votes)) for votes in rounds)
            return self._described[1:]

    def _ballots(self, votes: dict[str, dict[str, Vote]]) -> Ballots:
        ballots = Ballots(self._study.reviewers)
        for clip_id, clip in self._study.clips.items():
            cast = votes.get(clip_id, {})
            ballots.add(clip.expression, (cast[name].choice if name in cast else "" for name in ballots.reviewers))
        return ballots

    def _progress(self) -> Table:
        rows = []
        for name in self._study.reviewers:
            left, answered = self._study.left(name, FIRST)
            seconds = pace(answered)
            hours = f"{seconds * len(left) / 3600:.1f} h" if seconds and left else ""
            last = datetime.datetime.fromtimestamp(answered[-1].at).strftime("%Y-%m-%d %H:%M") if answered else "never"
            unsure = sum(vote.choice == CANNOT_TELL for vote in answered)
            again, voted = self._study.left(name, SECOND) if self._study.store.second_round else ([], [])
            second = f"{len(voted):,} of {len(voted) + len(again):,}" if voted or again else ""
            texts = (f"{len(answered):,} of {len(answered) + len(left):,}", hours, f"{unsure:,}", second, last)
            rows.append((Cell(name), *(Cell(text) for text in texts)))
        columns = ("reviewer", "answered", "about left", "cannot tell", "second round", "last vote")
        return Table("progress", "Progress", columns, tuple(rows), right=True)

    def _disagreement(self, clip_id: str) -> dict[str, Any]:
        clip = self._study.clips[clip_id]
        first, again = self._study.votes_on(clip_id, FIRST), self._study.votes_on(clip_id, SECOND)
        votes = [
            {
                "reviewer": name,
                "choice": spoken(first[name].choice),
                "again": spoken(again[name].choice) if name in again else "",
                "remark": "; ".join(vote.remark for vote in (first[name], again.get(name)) if vote and vote.remark),
            }
            for name in self._study.reviewers
            if name in first
        ]
        code = self._study.code(clip_id)
        return {"code": code, "video": clip_id, "person": clip.person, "expression": clip.expression, "votes": votes}

    def _disagreements_csv(self) -> bytes:
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        reviewers = self._study.reviewers
        writer.writerow(["video", "person", "expression", *reviewers, *(f"remark_{name}" for name in reviewers)])
        for clip_id in self._study.disputed():
            told = self._disagreement(clip_id)
            votes = {vote["reviewer"]: vote for vote in told["votes"]}
            writer.writerow(
                [clip_id, told["person"], told["expression"]]
                + [votes[name]["again"] or votes[name]["choice"] for name in reviewers]
                + [votes[name]["remark"] for name in reviewers]
            )
        return out.getvalue().encode()


def spoken(choice: str) -> str:
    """Returns a choice as a page says it."""
    return "cannot tell" if choice == CANNOT_TELL else choice


def _csv(content: bytes, name: str) -> Response:
    return Response(content, media_type="text/csv", headers={"content-disposition": f'attachment; filename="{name}"'})
