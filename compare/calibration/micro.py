"""Micro-benchmarks of the real parts: signatures, MACs, the codec, the durable store, a link between two processes.

CPU is what the system charged the thread or the process; what is left of the time that passed is waiting, for the disk
or to be woken. Medians of short rounds, so that what else runs on the machine spoils few of them.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from replog import authenticators
from replog.certificates import tls_context
from replog.codec import Codec
from replog.config import ClusterConfig, create_cluster
from replog.errors import ConfigError
from replog.keys import Ed25519Signer, Ed25519Verifier
from replog.live.bench import loop_factory
from replog.live.folders import temporary_folder
from replog.live.links import Dialler, Link, Listener, bind
from replog.storage import Storage
from replog.types import Message

ROUNDS: Final = 15
STATEMENT: Final = bytes(120)
"""About as long as what is signed: a request of one operation, a vote."""
RECORD: Final = bytes(200)
SMALL, LARGE = 128, 32 * 1024
"""Bytes of a frame, in the two rounds whose difference is the price of a byte."""
EXCHANGES: Final = 12
"""Of each round, at least, and for so long."""
ROUND_NS: Final = 20_000_000
LINK_S: Final = 30.0


def own_us() -> float:
    """What this process has used so far, all its threads."""
    return time.process_time_ns() / 1000


def cpu_us(pid: int) -> float:
    """The same of another one; of one that runs just now as of its last switch. Raises ConfigError where /proc does not
    tell it that exactly."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1000
    except (OSError, IndexError, ValueError):
        raise ConfigError("--calibrate: /proc/PID/schedstat: must be there to tell what a process used") from None


def thread_us(call: Callable[[], object], times: int = 500) -> float:
    """Microseconds of CPU that one call takes, the median of ROUNDS."""
    found = []
    for _ in range(ROUNDS):
        begin = time.thread_time_ns()
        for _ in range(times):
            call()
        found.append((time.thread_time_ns() - begin) / times / 1000)
    return statistics.median(found)


def signing() -> dict[str, float]:
    signer = Ed25519Signer(bytes(range(32)))
    verifier = Ed25519Verifier({0: signer.public})
    signature, key = signer.sign(STATEMENT), bytes(32)
    return {
        "sign_us": thread_us(lambda: signer.sign(STATEMENT)),
        "verify_us": thread_us(lambda: verifier.verify(0, STATEMENT, signature)),
        "mac_us": thread_us(lambda: authenticators.mac(key, STATEMENT)),
    }


def coding(codec: Codec[Any], messages: Sequence[Message]) -> float:
    """To encode or to decode one of these, in the mean: the simulator charges the same for each message in or out."""
    raws = [codec.encode(message) for message in messages]
    decoding = thread_us(lambda: [codec.decode(raw) for raw in raws], 20)
    encoding = thread_us(lambda: [codec.encode(message) for message in messages], 20)
    return (decoding + encoding) / len(messages) / 2


# ---------------------------------------------------------------------------------------------------------- the store


def storing(durability: str = "always") -> dict[str, float]:
    """A transaction of the real store: its CPU, that of each record in it, and the wait for the disk."""
    with temporary_folder("replog-calibrate-") as folder:
        Storage.create(folder, "calibration")
        storage, number = Storage(folder, "calibration", durability), 0
        times: dict[int, list[tuple[float, float]]] = {1: [], 33: []}
        try:
            for _ in range(20 * ROUNDS):
                for records, found in times.items():
                    batch = [(number + place, RECORD) for place in range(records)]
                    number += records
                    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
                    storage.append(batch)
                    found.append((time.thread_time_ns() - cpu, time.perf_counter_ns() - wall))
        finally:
            storage.close()
    one, many = (statistics.median(spent for spent, _ in times[records]) / 1000 for records in times)
    record_us = max(0.0, (many - one) / 32)
    waited = statistics.median(passed - spent for spent, passed in times[1]) / 1000
    return {"commit_us": max(0.0, one - record_us), "record_us": record_us, "sync_us": waited}


# ------------------------------------------------------------------------------------------------------------ the link


@dataclass(frozen=True)
class Round:
    """One frame there and one back: CPU of both ends, and what passed beside it."""

    cpu_us: float
    waited_us: float


def linking() -> dict[str, float]:
    """Frames through the real link to another process and back, one at a time.

    `frame_us`: sending or reading one, waking up included; `byte_ns`: each byte of it, both ends; `delay_us`: what
    passes from one end to the other while no end works.
    """
    with temporary_folder("replog-calibrate-") as folder:
        config = create_cluster(folder / "cluster", "raft", f=1, clients=("cli",))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            small, large = runner.run(_rounds(config))
    return {
        "frame_us": small.cpu_us / 4,
        "byte_ns": max(0.0, (large.cpu_us - small.cpu_us) / (LARGE - SMALL) / 2 * 1000),
        "delay_us": small.waited_us / 2,
    }


async def _rounds(config: ClusterConfig) -> tuple[Round, Round]:
    async with _echo(config) as (pid, port), asyncio.timeout(LINK_S):
        found: asyncio.Queue[tuple[Round, Round]] = asyncio.Queue()

        async def serve(link: Link) -> None:
            frames = aiter(link.frames())
            await _round(link, frames, pid, SMALL)
            await found.put((await _round(link, frames, pid, SMALL), await _round(link, frames, pid, LARGE)))
            await asyncio.Event().wait()  # until it is cancelled: a link that ends is dialled again

        context = tls_context(config.folder / "ca.pem", config.node_folder(1), server=False)
        dialler = Dialler(config.cluster, context, serve)
        keeper = asyncio.create_task(dialler.keep(0, "127.0.0.1", port))
        try:
            return await found.get()
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await dialler.close()


async def _round(link: Link, frames: AsyncIterator[bytes], pid: int, size: int) -> Round:
    payload, cpus, waits = bytes(size), list[float](), list[float]()
    for _ in range(ROUNDS):
        number, other, own, begin = 0, cpu_us(pid), own_us(), time.perf_counter_ns()
        while number < EXCHANGES or time.perf_counter_ns() - begin < ROUND_NS:
            link.send(payload)
            link.handled(len(await anext(frames)))
            number += 1
        wall, cpu = (time.perf_counter_ns() - begin) / 1000, own_us() - own
        cpu += cpu_us(pid) - other
        cpus.append(cpu / number)
        waits.append(max(0.0, wall - cpu) / number)
    return Round(statistics.median(cpus), statistics.median(waits))


@asynccontextmanager
async def _echo(config: ClusterConfig) -> AsyncIterator[tuple[int, int]]:
    """Another process that sends every frame back; its id and its port."""
    command = (sys.executable, "-m", "compare.calibration.micro", str(config.folder))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process without its pipes")
    try:
        async with asyncio.timeout(LINK_S):
            yield process.pid, int(await process.stdout.readline())
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(LINK_S):
                await process.wait()
        except TimeoutError:
            process.kill()


async def _serve_echo(folder: Path) -> None:
    """Until the standard input ends."""
    config = ClusterConfig.load(folder)
    context = tls_context(config.folder / "ca.pem", config.node_folder(0), server=True)
    listener = Listener(config.cluster, context, lambda _: None, _back)
    socket = bind("127.0.0.1", 0)
    await listener.start(socket)
    sys.stdout.write(f"{socket.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await listener.stop()


async def _back(link: Link) -> None:
    async for frame in link.frames():
        link.handled(len(frame))
        link.send(frame)


def main(arguments: Sequence[str]) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve_echo(Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
