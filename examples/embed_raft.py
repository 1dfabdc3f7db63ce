"""A lock service on three Raft servers, each a process of its own; one is killed, and its clients keep their locks."""

import asyncio

from replog import LocalCluster, StateMachine, Table, command, query


class Locks(StateMachine):
    holders: Table[str, tuple[str, int]]
    grants: int = 0

    @command
    def acquire(self, lock: str, who: str) -> tuple[str, int]:
        """Who has it now, and a number above all before it, by which a late word of a former holder shows."""
        if lock not in self.holders:
            self.grants += 1
            self.holders[lock] = who, self.grants
        return self.holders[lock]

    @command
    def release(self, lock: str, who: str) -> bool:
        return self.holders.get(lock, ("", 0))[0] == who and bool(self.holders.pop(lock))

    @query
    def holder(self, lock: str) -> str:
        return self.holders[lock][0]


async def main() -> None:
    async with LocalCluster("raft", Locks, f=1, processes=True) as cluster:
        print("held by", await asyncio.gather(*(cluster.call("acquire", "disk", who) for who in ("ann", "bob"))))
        cluster.kill(next(said.status.leader for said in await cluster.status() if said.status))
        print("after the leader's end by", holder := await cluster.call("holder", "disk"))
        print("released:", await cluster.call("release", "disk", holder))
        print("then by", await cluster.call("acquire", "disk", "eve"))


if __name__ == "__main__":
    asyncio.run(main())
