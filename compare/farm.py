"""Runs on other machines: by the workers of a Dask scheduler, `on = "tcp://HOST:8786"`. Needs the extra `dask`.

Here: handing jobs out and taking results back, each once. Not here: which jobs, and what becomes of them together
(`compare.runner`).

A worker that dies takes nothing along: the scheduler gives what it was at, and results of it that were not fetched yet,
to another one, and a run of the simulator comes out the same wherever and how often it is made. Only so many jobs are
handed out at a time. Whoever can talk to a scheduler can have anything run on its workers: it belongs into a network of
one's own, or behind TLS, for which Dask's own configuration is used.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from replog.errors import ConfigError, ReplogError

PACKAGES: Final = ("replog", "pbft", "raft", "compare")
AT_ONCE: Final = 1_000
"""Jobs that the scheduler knows at a time."""
PATIENCE_S: Final = 10
"""How long to wait for a scheduler, and for its first worker."""
_ADDRESS: Final = re.compile(r"(tcp|tls)://[^\s/:@]+(:\d{1,5})|(tcp|tls)://\[[0-9a-f:]+\](:\d{1,5})")

Job = TypeVar("Job")
Made = TypeVar("Made")


class Lost(ReplogError):
    """The scheduler is gone, and with it whatever it had been given."""


def check(address: str) -> None:
    """Raises ConfigError for what is no address, and without the extra."""
    if not _ADDRESS.fullmatch(address):
        raise ConfigError(f"on = {address!r:.80}: must be the address of a Dask scheduler, as tcp://HOST:8786")
    _distributed()


def _distributed() -> ModuleType:
    try:
        return import_module("distributed")
    except ImportError:
        raise ConfigError("on: needs Dask, which is not installed: pip install 'replog[dask]'") from None


def finished(jobs: Sequence[Job], make: Callable[[Job], Made], address: str) -> Generator[tuple[Job, Future[Made]]]:
    """Each job once, as it is finished, with what `make` returned or raised on a worker. While there is no worker it
    waits for one. Raises ConfigError where nobody answers, Lost."""
    distributed = _distributed()
    comparison, ours = uuid.uuid4().hex, edition()
    under_way: dict[str, tuple[Job, Any]] = {}
    rest = iter(enumerate(jobs))
    with _client(distributed, address) as client:

        def hand_out(number: int) -> list[Any]:
            futures = []
            for place, job in islice(rest, number):
                future = client.submit(_made, make, job, ours, key=f"replog-{comparison}-{place}", pure=False)
                under_way[future.key] = job, future
                futures.append(future)
            return futures

        done = distributed.as_completed(hand_out(AT_ONCE), loop=client.loop)
        for future in done:
            job, _ = under_way.pop(future.key)
            yield job, _outcome(future, address)
            done.update(hand_out(1))


@contextmanager
def _client(distributed: ModuleType, address: str) -> Iterator[Any]:
    """Its end, early or not, withdraws what is still under way. What it logs of lost connections, with tracebacks, is
    told by our errors."""
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address, timeout=PATIENCE_S, set_as_default=False, name="replog")
    except (OSError, TimeoutError) as error:
        raise ConfigError(f"on = {address}: no scheduler answers there: {_first_line(error)}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError:
            raise ConfigError(f"on = {address}: its scheduler has no workers: start one with dask worker") from None
        yield client


def _made(make: Callable[[Job], Made], job: Job, ours: str) -> Made:
    """On the worker. Other code may run or judge otherwise, and nobody could tell from the results."""
    if edition() != ours:
        raise ConfigError(f"on: a worker has replog {edition()}, and here is {ours}: both must be the same")
    return make(job)


def _outcome(future: Any, address: str) -> Future[Any]:
    """As a pool has it. A result whose worker has died meanwhile is waited for again."""
    outcome: Future[Any] = Future()
    try:
        outcome.set_result(future.result())
    except CancelledError:
        raise Lost(f"on = {address}: the scheduler is gone") from None
    except Exception as error:  # noqa: BLE001  as a pool does: whatever a run raises is its verdict
        outcome.set_exception(error)
    return outcome


def installed() -> str:
    """The release of this project that is here."""
    try:
        return version("replog")
    except PackageNotFoundError:
        return "unknown"


@cache
def edition() -> str:
    """The release, and a digest of our own modules and scenarios: a checkout may be anything between two releases."""
    digest = blake2b(digest_size=8)
    for package in PACKAGES:
        folder = Path(import_module(package).__path__[0])
        for path in sorted(path for suffix in ("py", "toml") for path in folder.rglob(f"*.{suffix}")):
            digest.update(f"{package}/{path.relative_to(folder).as_posix()}".encode() + b"\0" + path.read_bytes())
    return f"{installed()} ({digest.hexdigest()})"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
