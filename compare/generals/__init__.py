"""Generals who have to agree, in the words of the papers: small protocols on synchronous rounds, traitors, and a judge.

`two`: two generals over a link that loses messengers [Gray78]. `oral` and `signed`: OM(m) and SM(m) [LSP82], by
messages that are really passed (`rounds`); `traitors`: what they are up against, `choices`: everything they could do at
all; `judge`: whether IC1 and IC2 held. No part of the replicated logs: they show where the bound 3f + 1 comes from.
"""
