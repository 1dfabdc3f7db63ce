"""Money: where accounts only pay each other, what they hold together never changes.

What was lost, or came from nowhere, shows in what a client is told the total is, without any model of the application:
only deposits and withdrawals are added up. Of a fork each side may keep its own total; that one sum was spent on both
sides shows in linearizability and agreement.
"""

from __future__ import annotations

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Evidence
from compare.history import Call, Refusal


class Money:
    name = "money"
    summary = "what clients are told is in all accounts is what was brought, less what was taken away"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: totals that clients were told."""
        changes = [call for call in evidence.calls if call.method in ("deposit", "withdraw")]
        totals = [call for call in evidence.calls if call.method == "total" and call.known]
        texts = [text for call in totals if (text := _wrong(call, changes))]
        return Check(not texts, len(totals), summarise(texts))


def _wrong(total: Call, changes: list[Call]) -> str:
    """Between the least and the most that changes which may or may not have come before it allow."""
    least = most = 0
    for call in changes:
        if isinstance(call.outcome, Refusal) or call.invoke > (total.returned or 0):
            continue
        amount = call.args[1] if call.method == "deposit" else -call.args[1]
        before = call.returned is not None and call.returned < total.invoke
        least += amount if before or amount < 0 else 0
        most += amount if before or amount > 0 else 0
    told = total.outcome
    if isinstance(told, int) and least <= told <= most:
        return ""
    return f"{total} at {total.returned} us: it could only be {least}" + (f" to {most}" if most != least else "")
