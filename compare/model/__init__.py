"""Executable models of the papers' state machines, and recorded steps of the real cores held against them.

`python -m compare.model --runs 200` makes runs of Raft with every fault that it stands, records what each server was
told and what it did, and holds each step against figure 2. The models share no code with the cores: they know the
messages and the records. They were written from the figure, by somebody who had seen the cores.

Here: recording (`steps`), Raft's figure 2 (`raft`, `raft_log`), runs drawn from seeds (`raft_runs`).
"""
