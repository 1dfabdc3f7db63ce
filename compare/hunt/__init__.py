"""The search: random schedules of faults and lies, judged like any run, shrunk when one fails. See docs/hunt.md.

`case` is one hunt, `trial` makes it, `swarm` draws it, `shrink` makes a failing one small, `store` remembers, `search`
goes on until the budget is spent, `score` counts which broken cores are found.
"""
