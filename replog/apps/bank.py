"""A bank whose money stays constant unless it is deposited or withdrawn: double spending would show."""

from __future__ import annotations

from replog.statemachine import StateMachine, Table, command, query


class InsufficientFunds(Exception):
    """The account has less than the amount."""


class NoSuchAccount(Exception):
    """The account was never opened."""


class Bank(StateMachine):
    """Invariant: no balance is negative, and `in_bank` is the sum of all balances."""

    accounts: Table[str, int]
    in_bank: int = 0

    @command
    def deposit(self, account: str, amount: int) -> int:
        """Bring money, opening the account if need be. The new balance."""
        _check_amount(amount)
        self.in_bank += amount
        self.accounts[account] = self.accounts.get(account, 0) + amount
        return self.accounts[account]

    @command
    def withdraw(self, account: str, amount: int) -> int:
        """Take money away. The new balance."""
        _check_amount(amount)
        self.accounts[account] = self._at_least(account, amount) - amount
        self.in_bank -= amount
        return self.accounts[account]

    @command
    def transfer(self, source: str, target: str, amount: int) -> int:
        """Move money between two open accounts. The new balance of `source`."""
        _check_amount(amount)
        self.accounts[source] = self._at_least(source, amount) - amount
        self.accounts[target] = self.balance(target) + amount
        return self.accounts[source]

    @query
    def balance(self, account: str) -> int:
        """What is in an account."""
        if account not in self.accounts:
            raise NoSuchAccount(account)
        return self.accounts[account]

    @query
    def total(self) -> int:
        """What all accounts hold together."""
        return self.in_bank

    def _at_least(self, account: str, amount: int) -> int:
        balance = self.balance(account)
        if balance < amount:
            raise InsufficientFunds(f"{account} has {balance}, not {amount}")
        return balance


def _check_amount(amount: int) -> None:
    if amount <= 0:
        raise ValueError(f"amount = {amount}: must be positive")
