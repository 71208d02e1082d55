"""All commands by one name: `fer-tf build`, or `python -m fer_tf build`; `fer-tf` alone lists them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from fer_tf import __version__
from fer_tf.config import EXIT_OK, EXIT_USAGE, run_command

# Names, not imports: the commands are built on this library, and it must not need them.
COMMANDS = {
    "build": ("beam_pipelines.build", "videos and annotations.csv to a data folder of aligned faces"),
    "review": ("serving.review", "reviewers say on a page which expression each clip shows"),
    "train": ("trainer.task", "FaPE-GAN, synthetic faces, Fa-Net, evaluation: a run folder"),
    "synthesize": ("beam_pipelines.synthesize", "a run's synthetic faces on a Beam runner"),
    "average": ("trainer.average", "the mean weights of trainings that grew from each other"),
    "export": ("serving.export", "a run folder to a SavedModel"),
    "serve": ("serving.server", "the SavedModel over gRPC and HTTP"),
    "recognize": ("fer_tf.recognition.__main__", "pictures and videos to a table and annotated copies"),
    "client": ("serving.client", "the same by a server"),
    "predict": ("beam_pipelines.predict", "very many files on a Beam runner"),
    "demo": ("serving.demo", "the web page"),
    "look": ("fer_tf.reports.look", "where a network looks"),
    "report": ("fer_tf.reports.report", "the paper's figures and tables of data and runs"),
    "publish": ("trainer.publish", "a run's network with its model card, to be committed"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names on the others; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv == ["--version"]:
        print(f"fer_tf {__version__}")
        return EXIT_OK
    if argv and argv[0] in COMMANDS:
        return run_command(importlib.import_module(COMMANDS[argv[0]][0]).main, argv[1:])
    wanted = argv and argv[0] in ("-h", "--help")
    out = sys.stdout if wanted else sys.stderr
    if argv and not wanted:
        print(f"error: `command` must be one of {tuple(COMMANDS)}. Received: {argv[0]!r}.", file=out)
    print("usage: fer-tf COMMAND [FLAGS]; fer-tf COMMAND --help lists the flags\n", file=out)
    for name, (module, purpose) in COMMANDS.items():
        print(f"  {name:<11} {purpose} (python -m {module.removesuffix('.__main__')})", file=out)
    return EXIT_OK if wanted else EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
