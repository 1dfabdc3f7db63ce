"""Experiments against the literature: `replog experiment NAME` repeats what a paper measured and says what came out.

Each is one module here with a class below `base.Experiment`; `NAMES` is their list. Here: which there are. Not here:
what they have in common (`base`), many trials on many cores (`run`), pictures (`picture`) and intervals (`intervals`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from compare.experiments.base import Experiment
from replog.errors import ConfigError

NAMES: Final = {
    "raft-elections": "raft_elections",
    "generals": "generals",
    "message-cost": "message_cost",
    "failure-models": "failure_models",
    "slow-primary": "slow_primary",
    "cost-of-trust": "cost_of_trust",
    "aardvark": "aardvark",
    "forensics": "forensics",
    "byzantine-raft": "byzantine_raft",
}
"""Name of the command -> module, which has the experiment as `EXPERIMENT`. It is loaded when it is asked for."""


def find(name: str) -> Experiment[Any, Any]:
    """Raises ConfigError naming the known ones."""
    if name not in NAMES:
        raise ConfigError(f"experiment {name!r}: must be one of {', '.join(NAMES)}")
    found: Experiment[Any, Any] = import_module(f"compare.experiments.{NAMES[name]}").EXPERIMENT
    return found
