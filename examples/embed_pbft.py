"""Accounts replicated inside one program: four PBFT replicas, one of which may lie, with real links and real disks."""

import asyncio

from replog import LocalCluster, OperationFailed, StateMachine, Table, command, query


class Accounts(StateMachine):
    balances: Table[str, int]

    @command
    def deposit(self, owner: str, amount: int) -> int:
        if amount <= 0:
            raise ValueError("a deposit is positive")
        self.balances[owner] = self.balances.get(owner, 0) + amount
        return self.balances[owner]

    @query
    def balance(self, owner: str) -> int:
        if owner not in self.balances:
            raise KeyError(owner)
        return self.balances[owner]


async def main() -> None:
    async with LocalCluster("pbft", Accounts, f=1) as cluster:
        await asyncio.gather(*(cluster.call("deposit", "ann", 10) for _ in range(5)))
        print("ann has", await cluster.call("balance", "ann"))
        try:
            await cluster.call("deposit", "bob", -1)
        except OperationFailed as refusal:
            print("refused by every replica alike:", refusal)
        for said in await cluster.status():
            print(f"node {said.node}: {said.status.role if said.status else 'silent'}")


if __name__ == "__main__":
    asyncio.run(main())
