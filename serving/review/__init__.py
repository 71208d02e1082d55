"""Reviewers see clips in a browser and say which expression each shows: `python -m serving.review`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fer_tf import files
from fer_tf.config import EXIT_OK, parse, resuming
from fer_tf.errors import InputError, check_port
from fer_tf.resources import samples_folder
from serving import hosts

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ReviewConfig:
    """Flags of `python -m serving.review`.

    Args:
      annotations: the annotations CSV; empty for annotations.csv in the videos' root.
      videos_root: folder of the clips; `samples` is the project's own where there is none here.
      reviewers: names of those who vote, with commas between; empty takes those whom the study already knows.
      study: folder of the study: votes, links and playable copies of clips. It is made when missing.
      export: write the annotations with the reviewers' columns to this CSV, and end.
      export_votes: which votes an export writes: `final`, or `first` for those cast before anybody saw others'.
      labels_file: the expressions to choose from, one a line; empty takes those of the annotations.
      reviewer_columns: pattern of the reviewers' columns, as the build has it; a reviewer's name stands for the star.
      predictions: a model's predictions.jsonl or CSV; the least certain clips come first. Nobody sees them.
      show_label: show the reviewers the intended expression.
      show_person: show the reviewers the person's name.
      seed: changes every reviewer's order of clips.
      host: address to listen on; the default answers this machine alone.
      port: port of the page.
    """

    annotations: str = ""
    videos_root: str = "samples"
    reviewers: str = ""
    study: str = "data/review"
    export: str = ""
    export_votes: Literal["final", "first"] = "final"
    labels_file: str = ""
    reviewer_columns: str = "reviewer_*"
    predictions: str = ""
    show_label: bool = False
    show_person: bool = False
    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 7870

    def __post_init__(self) -> None:
        check_port("port", self.port)


@resuming
def main(argv: Sequence[str] | None = None) -> int:
    """Shows the page until Ctrl-C, or writes the export."""
    config, _ = parse(ReviewConfig, argv, prog="python -m serving.review", description=__doc__)
    from serving.review.store import Store
    from serving.review.study import Study, StudyOptions, export

    root = samples_folder(config.videos_root)
    if not os.path.isdir(root):
        raise InputError(f"`videos_root` {root!r} is no folder.")
    _make_study(config.study)
    options = StudyOptions(
        annotations=config.annotations or os.path.join(root, "annotations.csv"),
        videos_root=root,
        reviewers=tuple(name.strip() for name in config.reviewers.split(",") if name.strip()),
        labels_file=config.labels_file,
        reviewer_columns=config.reviewer_columns,
        predictions=config.predictions,
        seed=config.seed,
    )
    store = Store(os.path.join(config.study, "votes.sqlite3"))
    try:
        study = Study(options, store)
        if config.export:
            written = export(study, config.export, first_round=config.export_votes == "first")
            print(f"{written} votes of {len(study.reviewers)} reviewers in {config.export}")
            return EXIT_OK
        return serve(config, study)
    finally:
        store.close()


def _make_study(folder: str) -> None:
    """Makes the study's folder, its owner's alone; raises InputError when it cannot be written into."""
    files.refuse_remote("study", folder)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"`study` {folder!r} cannot be used ({error.strerror or error}). Change its permissions, or name another "
            "folder."
        ) from None


def serve(config: ReviewConfig, study: Any) -> int:
    """Serves the page until Ctrl-C."""

    import uvicorn

    from serving.review.app import ReviewApp
    from serving.review.playback import Playback

    try:
        listener = hosts.listener(config.host, config.port)
    except OSError as error:
        raise InputError(
            f"`host` {config.host!r} with `port` {config.port} cannot be listened on: {error.strerror or error}."
        ) from None
    playback = Playback(study.options.videos_root, os.path.join(config.study, "clips"))
    app = ReviewApp(study, playback, show_label=config.show_label, show_person=config.show_person).asgi()
    _say_links(config, study, listener.getsockname()[1])
    # No access log: it would write the secret links down.
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    try:
        server.run(sockets=[listener])
    finally:
        playback.close()
    return EXIT_OK


def _say_links(config: ReviewConfig, study: Any, port: int) -> None:
    host = hosts.bracketed(config.host)
    print(f"{len(study.clips)} clips, {len(study.labels)} expressions, {len(study.left_out)} rows left out", flush=True)
    for row in study.left_out[:5]:
        print(f"  line {row.line}: {row.clip_id} {row.reason} {row.detail}", flush=True)
    if hosts.bare(config.host) not in LOOPBACK:
        print("the page is reachable from other machines and not encrypted: put it behind a proxy with TLS", flush=True)
    print("each reviewer's own link; whoever has it votes in that name:", flush=True)
    tokens = study.store.reviewers()
    for name in study.reviewers:
        print(f"  {name}: http://{host}:{port}/r/{tokens[name]}/", flush=True)
    print("your own, with progress, agreement and the votes; not for reviewers:", flush=True)
    print(f"  lead: http://{host}:{port}/lead/{study.store.lead_token}/", flush=True)
    print("Ctrl-C ends it; the same command goes on where it stopped", flush=True)
