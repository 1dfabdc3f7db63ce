"""`python -m compare.mutants [NAME ...]`: which broken cores the random campaign finds, by whom and by which seed."""

from __future__ import annotations

import sys

from compare.mutants.base import found_by, hunt
from compare.mutants.pbft_by_chance import MISSED, MUTANTS
from replog.cli import output


def main(names: list[str]) -> int:
    """1 if one that must be found was not, or a name is unknown."""
    known = {mutant.name: mutant for mutant in (*MUTANTS, *MISSED)}
    chosen = [known[name] for name in names if name in known] if names else list(known.values())
    if len(chosen) < len(names):
        output.remark(f"unknown: {', '.join(sorted(set(names) - set(known)))}; known: {', '.join(known)}")
        return 1
    lost = 0
    for mutant in chosen:
        run = hunt(mutant)
        lost += run is None and mutant in MUTANTS
        seeds = len(mutant.seeds) if run is None else mutant.seeds.index(run.seed) + 1
        told = "not found" if run is None else f"{run.verdict}: {found_by(run)}"
        output.line(f"{mutant.name:32}{mutant.hazard:10}{seeds:3} seeds  {told}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
