"""A replicated counter, each of its three Raft servers in a process of its own; one is killed and nothing is lost."""

import asyncio

from replog import LocalCluster, StateMachine, command, query


class Counter(StateMachine):
    total: int = 0

    @command
    def add(self, amount: int = 1) -> int:
        self.total += amount
        return self.total

    @query
    def value(self) -> int:
        return self.total


async def main() -> None:
    async with LocalCluster("raft", Counter, f=1, processes=True) as cluster:
        print("sums on the way:", await asyncio.gather(*(cluster.call("add", n) for n in (1, 2, 3))))
        leader = next(said.status.leader for said in await cluster.status() if said.status)
        cluster.kill(leader)
        print("after the leader's end:", await cluster.call("add", 4))
        print("read back:", await cluster.call("value"))
        async for entry in cluster.log():
            print(f"index {entry.index}: {sum(len(request.operations) for request in entry.requests)} operations")


if __name__ == "__main__":
    asyncio.run(main())
