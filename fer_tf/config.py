"""One dataclass per command gives its flags, its --help, its YAML file and the run's saved config.json.

jsonargparse does the parsing: types come from the annotations, help texts from the dataclass's
docstring, and an unknown key in a YAML file is an error.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fer_tf.errors import InputError
from fer_tf.files import CannotWrite

Config = TypeVar("Config")

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INCOMPLETE = 0, 1, 2, 3


def parse(
    config_class: type[Config],
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    pass_unknown: bool = False,
    positional: str = "",
) -> tuple[Config, list[str]]:
    """Returns the command's config and, with `pass_unknown`, the flags that belong to another parser.

    Args:
      config_class: a frozen dataclass with a default for every field; its `__post_init__` may raise
        InputError for values that do not fit together.
      argv: the arguments after the program's name; None reads sys.argv.
      prog: the name shown in --help, such as `python -m trainer.task`.
      description: one or two sentences for --help.
      pass_unknown: whether unknown flags are handed back (Apache Beam has its own) or refused.
      positional: the list field that takes the arguments without a flag, if any.

    Raises:
      SystemExit: code 0 after --help, code 2 after a bad flag, with the reason on standard error.
    """
    import sys

    import jsonargparse

    argv = list(sys.argv[1:] if argv is None else argv)
    parser = jsonargparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--config", action="config", help="a YAML file with any of these flags")
    if positional:
        parser.add_argument(positional, nargs="*", type=str, default=[], help=positional)
    parser.add_class_arguments(config_class, skip={positional} if positional else set())
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    known, unknown = _split(argv, set(fields) | {"config", "print_config", "help"})
    if unknown and not pass_unknown:
        parser.error(f"unknown flag {unknown[0]!r}; --help lists the flags")
    bools = {name for name, field in fields.items() if field.type in (bool, "bool")}
    known = [f"{token}=true" if token.startswith("--") and token[2:] in bools else token for token in known]
    values = parser.parse_args(known).as_dict()
    try:
        return config_class(**{name: values[name] for name in fields}), unknown
    except InputError as error:
        parser.error(str(error))


def _split(argv: Sequence[str], names: set[str]) -> tuple[list[str], list[str]]:
    """Parts the tokens into those of the known flags (and positionals before any flag) and the others."""
    known: list[str] = []
    unknown: list[str] = []
    bucket = known
    for token in argv:
        if token.startswith("-"):
            name = token.lstrip("-").split("=", 1)[0]
            bucket = known if name in names or token == "-h" else unknown
        bucket.append(token)
    return known, unknown


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def run_command(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command's main: InputError is printed alone with exit code 2, a full disk with 1, Ctrl-C gives 130."""
    import os
    import sys

    # TensorFlow's start-up notes would bury the command's own lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return main(argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except CannotWrite as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("stopped: Ctrl-C; the same command goes on where this one stopped", file=sys.stderr)
        return 130
