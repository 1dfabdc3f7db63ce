"""What the battles of `generals` say together: tables, pictures, and the theorems beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from compare.experiments import intervals
from compare.experiments.base import Axis, Cell, Comparison, Findings, Line, Mark, Picture, Table
from compare.generals import two
from compare.generals.oral import messages, messages_in_all
from compare.generals.two import Ending, Plan

if TYPE_CHECKING:
    from compare.experiments.generals import Fought
    from compare.generals.traitors import Algorithm

Attempts = Mapping[tuple[Plan, int, float], Counter[Ending]]
Cells = Mapping[tuple["Algorithm", int, int], "Fought"]
UNLIKELY: Final = 1e-5
"""What a law gives less than this does not follow it: some sixty figures are held against their laws."""
ENDINGS: Final[tuple[Ending, Ending]] = ("both", "one")
RULES_UP_TO: Final = 10
"""Messengers for which every pair of rules is tried."""
PLANS: Final[dict[Plan, str]] = {"chain": "a chain, each confirms the last", "crowd": "all at once, the same word"}
NOTE: Final = (
    "Rounds are synchronous, as in the paper. Strategies of traitors: silent; parity (attack to even lieutenants, "
    "retreat to odd ones); random; flip (always the other order; under SM with forged signatures unless the commander "
    "is a traitor); late (SM: a second order, as late as traitors alone can sign it). Strategies can refute; that "
    "nothing breaks is shown where everything was tried. Signatures are keyed hashes of secrets that traitors do not "
    "hold, Ed25519 in the first of ten seeds."
)


def findings(attempts: Attempts, cells: Cells, small: Cells) -> Findings:
    rules = {messengers: two.certain_rules(messengers) for messengers in range(1, RULES_UP_TO + 1)}
    tables = [*_two_tables(attempts), *(_cells_table(cells, which) for which in ("OM", "SM")), _small_table(small)]
    comparisons = [*_against_chance(attempts), _no_rule(rules), *_against_theorems(cells, small), *_counts(cells)]
    return Findings(
        tables=[*tables, _messages_table(cells)],
        pictures=[*_two_pictures(attempts), _cells_picture(cells), _messages_picture(cells)],
        comparisons=comparisons,
        notes=[NOTE, *_examples(cells, small)],
    )


# --------------------------------------------------------------------------------------------------------- two generals


def _two_tables(attempts: Attempts) -> Iterator[Table]:
    columns = ["messengers", "lost", "attempts", "both", "law", "one alone", "95 %", "law", "alone, of attacks"]
    for plan, told in PLANS.items():
        found = {key: ended for key, ended in attempts.items() if key[0] == plan}
        yield Table(
            title=f"two generals: {told}", columns=columns, rows=[_two_row(*key, found[key]) for key in sorted(found)]
        )


def _two_row(plan: Plan, messengers: int, loss: float, ended: Counter[Ending]) -> list[Cell]:
    total, (both, alone) = ended.total(), two.law(plan, messengers, loss)
    low, high = intervals.wilson(ended["one"], total)
    attacks = ended["both"] + ended["one"]
    shares = [f"{ended['both'] / total:.2%}", f"{both:.2%}", f"{ended['one'] / total:.2%}"]
    last = f"{ended['one'] / attacks:.2%}" if attacks else None
    return [str(messengers), f"{loss:.0%}", total, *shares, f"{low:.2%}-{high:.2%}", f"{alone:.2%}", last]


def _two_pictures(attempts: Attempts) -> Iterator[Picture]:
    most = max((messengers for _, messengers, _ in attempts), default=1)
    losses = sorted({loss for _, _, loss in attempts})
    for plan, told in PLANS.items():
        lines, marks = [], []
        for loss in losses:
            laws = [(messengers, two.law(plan, messengers, loss)) for messengers in range(1, most + 1)]
            lines.append(Line(name=f"both, {loss:.0%} lost", points=[(k, law[0]) for k, law in laws], dashed=True))
            lines.append(Line(name=f"one alone, {loss:.0%} lost", points=[(k, law[1]) for k, law in laws], dashed=True))
        for (which, messengers, loss), ended in attempts.items():
            if which == plan:
                marks += [_mark(messengers, loss, ended, ending) for ending in ENDINGS]
        yield Picture(
            name=f"two-generals-{plan}",
            title=f"Two generals: {told}",
            x=Axis(label="messengers", least=0, most=most + 1),
            y=Axis(label="share of attempts (lines: the law)", least=0, most=1),
            lines=lines,
            marks=marks,
        )


def _mark(messengers: int, loss: float, ended: Counter[Ending], ending: Ending) -> Mark:
    low, high = intervals.wilson(ended[ending], ended.total())
    share = ended[ending] / ended.total()
    return Mark(name=f"{ending}, {loss:.0%} lost: {share:.2%}", x=messengers, y=share, low=low, high=high)


def _against_chance(attempts: Attempts) -> Iterator[Comparison]:
    for plan, told in PLANS.items():
        found = [(key, ended) for key, ended in attempts.items() if key[0] == plan]
        if not found:
            continue
        least = min(
            intervals.likelihood(ended[ending], ended.total(), law)
            for key, ended in found
            for ending, law in zip(ENDINGS, two.law(*key), strict=True)
        )
        disagreed = sum(ended["one"] for _, ended in found)
        yield Comparison(
            what=f"two generals, {told}",
            source="Gray78",
            published="both (1-p)^k, one alone p(1-p)^(k-1)" if plan == "chain" else "both 1-p^k, one alone p^k",
            measured=f"least likely of {2 * len(found)} figures: {least:.2g}; one alone in {disagreed:,}",
            rule=f"none less likely than {UNLIKELY:g}, and some alone",
            holds=least > UNLIKELY and disagreed > 0,
        )


def _no_rule(rules: Mapping[int, tuple[int, int]]) -> Comparison:
    tried, certain = sum(one for one, _ in rules.values()), sum(one for _, one in rules.values())
    return Comparison(
        what="no number of messengers is enough",
        source="Gray78",
        published="no rule is certain",
        measured=f"{certain} of {tried:,} pairs of rules, k to {max(rules)}",
        rule="both if all arrive, none if none does, never one alone: no pair",
        holds=certain == 0,
    )


# --------------------------------------------------------------------------------------------------- Byzantine generals


def stands(algorithm: Algorithm, n: int, m: int) -> bool:
    """What the theorems say. [LSP82 2, 3 theorem 1, 4 theorem 2]"""
    return algorithm == "SM" or n >= 3 * m + 1


def _proves(n: int, m: int) -> bool:
    return m > 0 and n >= m + 2


def _cells_table(cells: Cells, algorithm: str) -> Table:
    sizes = sorted({n for which, n, _ in cells if which == algorithm})
    traitors = sorted({m for which, _, m in cells if which == algorithm})
    rows: list[list[Cell]] = [[f"n = {n}", *(_cell(cells, algorithm, n, m) for m in traitors)] for n in sizes]
    columns = ["generals", *(f"{algorithm}({m})" for m in traitors)]
    return Table(
        title=f"{algorithm}(m): battles with up to m traitors in which IC1 or IC2 broke", columns=columns, rows=rows
    )


def _cell(cells: Cells, algorithm: str, n: int, m: int) -> Cell:
    found = next((one for key, one in cells.items() if key == (algorithm, n, m)), None)
    if found is None:
        return None
    if n < m + 2:
        return f"nothing to break ({found.battles:,})"
    return f"{'BROKEN' if found.broken else 'holds'} {found.broken:,} of {found.battles:,}"


def _small_table(small: Cells) -> Table:
    rows: list[list[Cell]] = [
        [f"{algorithm}({m}), n = {n}", found.battles, found.broken, "stands" if stands(algorithm, n, m) else "fails"]
        for (algorithm, n, m), found in small.items()
    ]
    columns = ["m traitors do all they can", "battles", "broken", "theorem"]
    return Table(title="everything that traitors could do", columns=columns, rows=rows)


def _against_theorems(cells: Cells, small: Cells) -> Iterator[Comparison]:
    yield from _compared(cells, "OM", True, "OM(m), n >= 3m + 1", "LSP82 3, theorem 1")
    yield from _compared(cells, "OM", False, "OM(m), n <= 3m", "LSP82 2")
    yield from _compared(cells, "SM", True, "SM(m), n >= m + 2", "LSP82 4, theorem 2")
    yield from _compared(small, "OM", True, "OM(m), n >= 3m + 1, everything", "LSP82 3, theorem 1")
    yield from _compared(small, "OM", False, "OM(m), n <= 3m, everything", "LSP82 2")
    yield from _compared(small, "SM", True, "SM(m), n >= m + 2, everything", "LSP82 4, theorem 2")
    refused = sum(found.refused for (algorithm, _, _), found in cells.items() if algorithm == "SM")
    if refused:
        what = "no word under a signature that its owner did not make"
        yield Comparison(
            what="forged signatures",
            source="LSP82 4, A4",
            published=what,
            measured=f"{refused:,} words refused",
            rule="some were tried, and none broke a battle of SM",
            holds=not any(found.broken for (algorithm, _, _), found in cells.items() if algorithm == "SM"),
        )


def _compared(cells: Cells, algorithm: str, stood: bool, what: str, source: str) -> Iterator[Comparison]:
    found = [
        one
        for (which, n, m), one in cells.items()
        if which == algorithm and _proves(n, m) and stands(which, n, m) == stood
    ]
    if not found:
        return
    checked, broken = sum(one.checked for one in found), sum(one.broken > 0 for one in found)
    yield Comparison(
        what=what,
        source=source,
        published="IC1 and IC2 hold" if stood else "m traitors can break it",
        measured=f"broken in {broken} of {len(found)} sizes; {checked:,} decisions checked",
        rule="in none" if stood else "in each",
        holds=checked > 0 and broken == (0 if stood else len(found)),
    )


def _examples(cells: Cells, small: Cells) -> list[str]:
    """Where n = 3m: the most generals that are not enough."""
    edge = [found for found in (small.get(("OM", 3, 1)), cells.get(("OM", 6, 2)), cells.get(("OM", 9, 3))) if found]
    return [found.example for found in edge if found.example]


# ------------------------------------------------------------------------------------------------------------- messages


def _messages_table(cells: Cells) -> Table:
    rows: list[list[Cell]] = []
    for (algorithm, n, m), found in sorted(cells.items()):
        if algorithm == "OM" and n >= m + 2:
            other = next((sum(one.loyal) for key, one in cells.items() if key == ("SM", n, m)), None)
            law = messages(n, m)
            rows.append([f"n = {n}, m = {m}", law, found.loyal[-1], messages_in_all(n, m), sum(found.loyal), other])
    columns = ["no traitors", "published", "OM, last round", "law, all rounds", "OM, all rounds", "SM, all rounds"]
    return Table(title="messages: published is (n-1)(n-2)...(n-m-1)", columns=columns, rows=rows)


def _counts(cells: Cells) -> Iterator[Comparison]:
    spoken = {(which, n, m): one.loyal for (which, n, m), one in cells.items() if n >= m + 2}
    oral = {key: sent for key, sent in spoken.items() if key[0] == "OM"}
    signed = {key: sent for key, sent in spoken.items() if key[0] == "SM"}
    if oral:
        right = sum(sent[-1] == messages(n, m) for (_, n, m), sent in oral.items())
        yield Comparison(
            what="messages of OM(m), last round",
            source="LSP82 7",
            published="(n-1)(n-2)...(n-m-1)",
            measured=f"as many in {right} of {len(oral)} sizes",
            rule="exactly, in each",
            holds=right == len(oral),
        )
    if signed:
        under = sum(sum(sent) <= messages_in_all(n, m) for (_, n, m), sent in signed.items())
        yield Comparison(
            what="messages of SM(m), all rounds",
            source="LSP82 7",
            published="no more than OM(m)",
            measured=f"as many at most in {under} of {len(signed)} sizes",
            rule="in each",
            holds=under == len(signed),
        )


def _cells_picture(cells: Cells) -> Picture:
    sizes = sorted({n for _, n, _ in cells}) or [3, 10]
    shares = {key: found.broken / found.battles for key, found in cells.items() if _proves(key[1], key[2])}
    lines = [
        Line(
            name=f"OM({m})",
            points=sorted((n, share) for (which, n, k), share in shares.items() if (which, k) == ("OM", m)),
        )
        for m in sorted({m for which, _, m in shares if which == "OM"})
    ]
    signed = [(n, share) for (which, n, _), share in shares.items() if which == "SM"]
    worst = {n: max(share for size, share in signed if size == n) for n, _ in signed}
    lines.append(Line(name="SM(1), SM(2), SM(3): the worst", points=sorted(worst.items()), dashed=True))
    return Picture(
        name="generals-broken",
        title="Battles that up to m traitors broke [LSP82]",
        x=Axis(label="generals", least=sizes[0], most=sizes[-1]),
        y=Axis(label="share of battles with IC1 or IC2 broken", least=0, most=0.4),
        lines=lines,
        marks=[Mark(name=f"OM({m}) stands from n = 3m + 1 = {3 * m + 1} on", x=3 * m + 1, y=0) for m in (1, 2, 3)],
    )


def _messages_picture(cells: Cells) -> Picture:
    sizes = sorted({n for _, n, _ in cells}) or [3, 10]
    lines = []
    for m in sorted({m for _, _, m in cells}):
        law = [(float(n), float(messages(n, m))) for n in range(max(sizes[0], m + 2), sizes[-1] + 1)]
        lines.append(Line(name=f"OM({m}), last round, published", points=law, dashed=True))
    signed = [(float(n), float(sum(found.loyal))) for (which, n, m), found in cells.items() if (which, m) == ("SM", 1)]
    lines.append(Line(name="SM(1), SM(2), SM(3), all rounds", points=sorted(signed)))
    marks = [
        Mark(name=f"OM({m}), n = {n}, last round", x=n, y=found.loyal[-1], low=found.loyal[-1], high=found.loyal[-1])
        for (which, n, m), found in cells.items()
        if which == "OM" and n > m + 1
    ]
    return Picture(
        name="generals-messages",
        title="Messages without traitors [LSP82 7]",
        x=Axis(label="generals", least=sizes[0], most=sizes[-1]),
        y=Axis(label="messages", least=1, most=5000, logarithmic=True),
        lines=[line for line in lines if line.points],
        marks=marks,
    )
