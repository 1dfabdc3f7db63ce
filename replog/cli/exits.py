"""What a command's exit code means: one table for every command, and which error leads to which code."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

import typer

from replog.errors import ConfigError, NoCluster, ReplogError, RequestTooLarge


class ExitCode(IntEnum):
    """Also for sub-commands that other packages join to the tree."""

    AS_EXPECTED = 0
    NOT_AS_EXPECTED = 1
    WRONG_USAGE = 2
    NO_CLUSTER = 3
    SAFETY_VIOLATED = 4
    STALLED = 5
    VACUOUS = 6
    OUR_BUG = 70


class WrongUsage(ConfigError):
    """An argument or option is wrong: exit code 2, whoever finds out."""


def code_of(error: ReplogError) -> ExitCode:
    """The exit code for an error that ends a command."""
    if isinstance(error, ConfigError | RequestTooLarge):
        return ExitCode.WRONG_USAGE
    if isinstance(error, NoCluster):
        return ExitCode.NO_CLUSTER
    return ExitCode.NOT_AS_EXPECTED


def leave(code: ExitCode) -> NoReturn:
    """End the command with `code`, quietly."""
    raise typer.Exit(int(code))
