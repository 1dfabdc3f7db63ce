"""Practical Byzantine Fault Tolerance: the protocol, nothing else.

`SPEC` is what the rest of the house needs; `PbftCore` is one replica as `step(now, event) -> effects`, without clock,
socket, task or file; `pbft.config.Options` are its options. Read `pbft/core.py` first, then `pbft/ordering.py`;
`pbft/README.md` maps rules to functions.
"""

from pbft.core import PbftCore
from pbft.spec import SPEC

__all__ = ["SPEC", "PbftCore"]
