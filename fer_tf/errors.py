"""The errors that commands print by their message alone, and how it is written."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable


class InputError(ValueError):
    """Bad user input: the message names the field, the value and where it stands.

    Commands print the message alone, without a traceback, and exit with code 2.
    """


class ServerError(Exception):
    """The server did not answer, or answered with an error; the message says which.

    Commands print the message alone and exit with code 1.
    """


def is_number(value: object, kind: type = numbers.Real) -> bool:
    """Returns whether a value is a number of a kind, NumPy's too; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_least(options: object, prefix: str = "", **least: float) -> None:
    """Raises InputError for the first field that is less than its least value, or no finite number.

    Args:
      options: what holds the fields, a command's flags or a group of them.
      prefix: what stands before the fields' names in the flags.
      **least: the least value of a field, by its name.
    """
    for name, value in least.items():
        given = getattr(options, name)
        if not given < math.inf:  # nan too
            raise InputError(f"`{prefix}{name}` must be a finite number of at least {value}. Received: {given}.")
        if given < value:
            raise InputError(f"`{prefix}{name}` must be at least {value}. Received: {given}.")


def check_positive(options: object, *names: str) -> None:
    """Raises InputError for the first field that is 0 or less, or no finite number.

    Args:
      options: what holds the fields, a command's flags or a group of them.
      *names: the fields.
    """
    for name in names:
        if not 0 < getattr(options, name) < math.inf:  # nan too
            raise InputError(f"`{name}` must be a finite number of more than 0. Received: {getattr(options, name)}.")


def check_port(field: str, port: int, least: int = 0) -> None:
    """Raises InputError for what is no port number.

    Args:
      field: name of the flag.
      port: what it was given.
      least: the least value that means something: 0 takes a free port, -1 none at all.
    """
    if not least <= port < 65536:
        raise InputError(f"`{field}` must be a port number. Received: {port}.")


def not_one_of(field: str, received: object, allowed: Iterable[object], where: str = "") -> InputError:
    """Returns the error for a value outside a fixed set.

    Args:
      field: name of the field, flag or column.
      received: the value that was given.
      allowed: the values that would be right, in the order to show them.
      where: file and line, or what else locates the value; optional.
    """
    place = f" ({where})" if where else ""
    return InputError(f"`{field}` must be one of {tuple(allowed)}. Received: {received!r}{place}.")
