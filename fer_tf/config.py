"""One dataclass per command gives its flags, its --help, its YAML file and the run's saved config.json.

A field whose type is a dataclass is a group: its fields are flags beside the command's own, under their names or with a
prefix before them, so that a group can be handed on alone and the same options stand in several commands.

    @dataclass(frozen=True)
    class BuildConfig:
        output: str = "data/faces"
        faces: ExtractorOptions = group(ExtractorOptions, threads=1)     # gives --max_keyframes, --threads, ...

jsonargparse does the parsing: types come from the annotations, help texts from the dataclasses' docstrings, and an
unknown key in a YAML file is an error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from fer_tf import start_up
from fer_tf.environment import check_keras
from fer_tf.errors import InputError, ServerError, not_one_of
from fer_tf.files import CannotWrite

Config = TypeVar("Config")
Main = Callable[[Sequence[str] | None], int]
_RESUMING: set[Main] = set()

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INCOMPLETE = 0, 1, 2, 3
# As a shell tells a program that SIGPIPE ended.
EXIT_UNREAD = 141
VERBOSE = "verbose"
_PREFIX, _WITHOUT = "prefix", "without"
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def group(options: type, prefix: str = "", without: Sequence[str] = (), **defaults: Any) -> Any:
    """Returns a field that holds a group of options.

    Args:
      options: the group's frozen dataclass, with a default for every field.
      prefix: what stands before its fields' names in the flags.
      without: fields that mean nothing to this command, and so are no flags.
      **defaults: defaults of this command where they differ from the group's own.
    """
    return dataclasses.field(default_factory=lambda: options(**defaults), metadata={_PREFIX: prefix, _WITHOUT: without})


@dataclasses.dataclass(frozen=True)
class _Flag:
    """One flag: name, the fields that lead to its value, type, default, help, and the heading that it stands under."""

    name: str
    path: tuple[str, ...]
    type: Any
    default: Any
    help: str
    heading: str


def _flags_of(config_class: type) -> dict[str, _Flag]:
    """The flags of a command's config or of a group, by name, in the order of their fields."""
    types, (heading, helps) = typing.get_type_hints(config_class), _docs_of(config_class)
    flags: dict[str, _Flag] = {}
    for field in dataclasses.fields(config_class):
        kind = types[field.name]
        made = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        if dataclasses.is_dataclass(kind):
            prefix = field.metadata.get(_PREFIX, "")
            for flag in _flags_of(kind).values():
                if flag.name not in field.metadata.get(_WITHOUT, ()):
                    name, path = f"{prefix}{flag.name}", (field.name, *flag.path)
                    # What the command itself says of a flag is about its own use of it.
                    text, default = helps.get(name, flag.help), getattr(made, flag.name)
                    flags[name] = dataclasses.replace(flag, name=name, path=path, help=text, default=default)
        else:
            flags[field.name] = _Flag(field.name, (field.name,), kind, made, helps.get(field.name, ""), heading)
    return flags


def _docs_of(config_class: type) -> tuple[str, dict[str, str]]:
    """The first sentence of a dataclass's docstring, and what it says of each field."""
    import docstring_parser

    parsed = docstring_parser.parse(config_class.__doc__ or "")
    helps: dict[str, str] = {}
    for item in parsed.params:
        for name in item.arg_name.split(", "):
            helps[name] = " ".join((item.description or "").split())
    return (parsed.short_description or "").rstrip("."), helps


def of(config_class: type[Config], **flags: Any) -> Config:
    """Returns a config with the given flags, by the names that they have on the command line.

    Raises:
      InputError: for a flag that the command does not have, or values that do not fit together.
    """
    return _filled(config_class, {}, flags)


def replace(config: Config, **flags: Any) -> Config:
    """Returns a config with other values for some flags; raises as `of`."""
    return _filled(type(config), to_dict(config), flags)


def _filled(config_class: type[Config], before: dict[str, Any], flags: dict[str, Any]) -> Config:
    known = _flags_of(config_class)
    if unknown := [name for name in flags if name not in known]:
        raise not_one_of("flag", unknown[0], known)
    given = {name: value for name, value in {**before, **flags}.items() if name in known}
    return _built(config_class, {known[name].path: value for name, value in given.items()})


def _built(config_class: type, values: dict[tuple[str, ...], Any]) -> Any:
    """The config of some fields' values, with the fields that are left out at their defaults."""
    arguments: dict[str, Any] = {path[0]: value for path, value in values.items() if len(path) == 1}
    for field in dataclasses.fields(config_class):
        inner = {path[1:]: value for path, value in values.items() if len(path) > 1 and path[0] == field.name}
        if inner:
            made = field.default_factory()
            arguments[field.name] = dataclasses.replace(made, **{path[0]: value for path, value in inner.items()})
    return config_class(**arguments)


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config's flags as plain JSON values, without groups, as config.json keeps them."""
    values = {}
    for name, flag in _flags_of(type(config)).items():
        value = config
        for step in flag.path:
            value = getattr(value, step)
        values[name] = value
    return json.loads(json.dumps(values, default=str))


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
      config_class: a frozen dataclass with a default for every field; its `__post_init__` and its groups' may raise
        InputError for values that do not fit together.
      argv: the arguments after the program's name; None reads sys.argv.
      prog: the name shown in --help, such as `python -m trainer.task`.
      description: one or two sentences for --help.
      pass_unknown: whether unknown flags are handed back (Apache Beam has its own) or refused.
      positional: the list field that takes the arguments without a flag, if any.

    Raises:
      SystemExit: code 0 after --help, code 2 after a bad flag, with the reason alone on standard error.
    """
    import sys

    flags = _flags_of(config_class)
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(flags, prog, description, positional)
    argv, named = _parted(argv) if positional else (argv, [])
    known, unknown = _split(argv, set(flags) | {"config", "print_config", "help", VERBOSE})
    if unknown and not pass_unknown:
        parser.error(f"unknown flag {unknown[0]!r}; --help lists the flags")
    bools = {name for name, flag in flags.items() if flag.type is bool} | {VERBOSE}
    values = parser.parse_args(_joined(known, bools)).as_dict()
    if named:
        values[positional] = [*values[positional], *named]
    try:
        return _filled(config_class, {}, {name: _at_home(values[name]) for name in flags}), unknown
    except InputError as error:
        return parser.error(str(error))


def _parser(flags: dict[str, _Flag], prog: str, description: str, positional: str) -> Any:
    """The parser of a command's flags, under their groups' headings."""
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> typing.NoReturn:
            self.exit(EXIT_USAGE, f"error: {_sentence(message, flags)}\nsee {prog} --help\n")

    # One line, not one for each flag: they follow, with what they mean.
    usage = f"{prog} {f'[{positional} ...] ' if positional else ''}[--flag=value ...]"
    parser = Parser(prog=prog, usage=usage, description=description)
    parser.add_argument("--config", action="config", help="a YAML file with any of these flags")
    parser.add_argument(
        f"--{VERBOSE}", type=bool, default=False, help="also shows what TensorFlow says while it starts"
    )
    if positional:
        parser.add_argument(positional, nargs="*", type=str, default=[], help=flags[positional].help or positional)
    headings: dict[str, Any] = {}
    for name, flag in flags.items():
        if name != positional:
            if flag.heading not in headings:
                headings[flag.heading] = parser.add_argument_group(flag.heading)
            headings[flag.heading].add_argument(f"--{name}", type=flag.type, default=flag.default, help=flag.help)
    return parser


def _sentence(message: str, flags: dict[str, _Flag]) -> str:
    """What jsonargparse says of a wrong value, as this project says it."""
    found = re.match(r"Parser key \"(\w+)\":\s.*Got value: (.*)", message, re.DOTALL)
    if not found or found[1] not in flags:
        return re.sub(
            r"^Option '(.*)' is not accepted", r"unknown flag '\1' in the YAML file", " ".join(message.split())
        )
    name, value = found[1], found[2].strip()
    kind = flags[name].type
    if typing.get_origin(kind) is typing.Literal:
        return str(not_one_of(name, value, typing.get_args(kind)))
    return f"`{name}` must be {_KINDS.get(kind, 'a list such as [a,b]')}. Received: {value!r}."


def _at_home(value: Any) -> Any:
    """A value with the user's folder in the place of `~`, which a shell leaves as it is behind `--flag=`."""
    if isinstance(value, str):
        # Also in `--data=er_ss=~/faces,jaffe=~/jaffe` and `--model=~/one+~/two`.
        return re.sub(r"(^|[=,+])~(?=/|$)", lambda found: found[1] + os.path.expanduser("~"), value)
    return type(value)(map(_at_home, value)) if isinstance(value, (list, tuple)) else value


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


def _parted(argv: list[str]) -> tuple[list[str], list[str]]:
    """The arguments before `--`, and those behind it, which are no flags, whatever they begin with."""
    place = argv.index("--") if "--" in argv else len(argv)
    return argv[:place], argv[place + 1 :]


def _joined(tokens: Sequence[str], bools: Collection[str]) -> list[str]:
    """Joins each flag with the value after it; what belongs to no flag comes first, wherever it stood."""
    free, flags, left = [], [], list(tokens)
    while left:
        token = left.pop(0)
        if not token.startswith("-"):
            free.append(token)
        elif "=" in token or not token.startswith("--") or token in ("--help", "--print_config"):
            flags.append(token)
        elif token[2:] in bools:
            told = bool(left) and left[0].lower() in ("true", "false")
            flags.append(f"{token}={left.pop(0) if told else 'true'}")
        else:
            told = bool(left) and not left[0].startswith("-")
            flags.append(f"{token}={left.pop(0)}" if told else token)
    return [*free, *flags]


def resuming(main: Main) -> Main:
    """Marks the main of a command that goes on where it was stopped, so that Ctrl-C says so."""
    _RESUMING.add(main)
    return main


def run_command(main: Main, argv: Sequence[str] | None = None) -> int:
    """Runs a command's main: InputError is printed alone with exit code 2, a full disk with 1, Ctrl-C gives 130.

    Where nobody reads its lines further, as behind `| head`, it ends without a word and gives 141. What TensorFlow says
    while it starts would bury the command's own lines; --verbose shows it.
    """
    import sys

    try:
        try:
            code = _run(main, argv)
        except SystemExit:
            _flush()
            raise
        # What is left would fail later, with a traceback of Python's own.
        _flush()
        return code
    except BrokenPipeError:
        # One of another pipe is an error.
        if not _is_unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD


def _flush() -> None:
    import sys

    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError, AttributeError):
        # Python says so itself at its end, or there is no such stream.
        return


def _is_unread() -> bool:
    """Whether standard output is a pipe whose reader is gone."""
    import select
    import sys

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


def _run(main: Main, argv: Sequence[str] | None) -> int:
    import sys

    if f"--{VERBOSE}" not in (sys.argv[1:] if argv is None else argv):
        start_up.quiet()
    start_up.ask_for_onednn()
    # A trainer, a server and a page may share one GPU; TensorFlow by itself takes all of its memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show is shown with marks in its place: it must not end the work.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        check_keras()
        return main(argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (CannotWrite, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        rest = "; the same command goes on where this one stopped" if main in _RESUMING else ""
        print(f"stopped: Ctrl-C{rest}", file=sys.stderr)
        return 130
