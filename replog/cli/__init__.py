"""The `replog` command: one tree, joined by sub-commands of other packages.

Here: the entry point, what becomes of errors, and the check that the packages around us are ours. The tree is in
`tree`, options that every command shares in `options`, exit codes in `exits`. Nothing heavy is imported before a
command needs it: `replog --help` answers at once.
"""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

OWN_PACKAGES = ("pbft", "raft", "compare")
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""A disk that is full, read-only or broken is no bug of ours, whichever file of the command met it."""
_OWN_ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    """`replog ARGUMENTS`; ends the process with a code of `replog.cli.exits`."""
    try:
        _make_writable()
        _end_as_by_ctrl_c()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # Ctrl-C while the tree is loaded
        code = 130
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code. Errors are one line on stderr, with a hint."""
    from replog.cli import exits, tree
    from replog.errors import OperationFailed, ReplogError

    try:
        for stranger in strangers():
            _complain(stranger)
            return exits.ExitCode.NOT_AS_EXPECTED
        result = tree.command()(arguments, prog_name="replog", standalone_mode=False)
        return result if isinstance(result, int) else exits.ExitCode.AS_EXPECTED
    except tree.UsageProblem as error:
        if str(error):  # without words: a command that was given nothing, and has shown its help
            _complain(tree.one_line(error, arguments))
        return exits.ExitCode.WRONG_USAGE
    except ReplogError as error:
        lines = "" if isinstance(error, OperationFailed) else "\n"  # the words of an application have one line
        _complain(str(error), verbose=_verbose(arguments), keep=lines)
        return exits.code_of(error)
    except KeyboardInterrupt:
        return 130
    except PermissionError as error:
        _complain(f"{error.filename}: {error.strerror}; is it another user's?", verbose=_verbose(arguments))
        return exits.ExitCode.NOT_AS_EXPECTED
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            return _our_bug(error)
        _complain(f"{error.filename or 'a file'}: {error.strerror}; see replog doctor", verbose=_verbose(arguments))
        return exits.ExitCode.NOT_AS_EXPECTED
    except Exception as error:  # noqa: BLE001  the last line of defence: whatever comes here is our own bug
        return _our_bug(error)


def _our_bug(error: Exception) -> int:
    from replog.cli import exits

    _complain(f"internal error, please report it: {type(error).__name__}: {error}", verbose=True)
    return exits.ExitCode.OUR_BUG


def strangers() -> list[str]:
    """One line for each top-level package of ours in whose place another distribution's is found."""
    found = []
    for name in OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is not None and origin != _OWN_ROOT / name / "__init__.py":
            found.append(
                f"the package {name!r} in {origin.parent} is not replog's: another distribution or a folder of that "
                f"name hides it; use a virtual environment of replog's own, or start elsewhere"
            )
    return found


def _make_writable() -> None:
    """A stream that was closed swallows what is written; one that is not Unicode shows what it lacks escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  for the rest of the process
        elif isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


def _end_as_by_ctrl_c() -> None:
    """SIGTERM and a terminal that is closed do what Ctrl-C does: whatever was made for a while is removed. A command
    with a better answer, `up`, has its own. A worker that was forked from here just ends."""
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # started in the background, where Ctrl-C means nothing
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _verbose(arguments: list[str]) -> bool:
    return "-v" in arguments or "--verbose" in arguments


def _complain(text: str, verbose: bool = False, keep: str = "\n") -> None:
    from replog.cli import output

    if verbose:
        traceback.print_exc()
    output.remark(f"replog: {output.visible(text, keep)}")
