"""One seed is one run: the trace under an attack is the same bytes whatever the process's hash seed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_the_trace_of_an_attack_is_the_same_bytes_in_any_process(protocol: str, tmp_path: Path) -> None:
    traces = []
    for hash_seed in ("1", "2"):
        out = tmp_path / hash_seed
        arguments = [
            "compare",
            "equivocating-leader",
            "--protocol",
            protocol,
            "--seed",
            "2",
            "--trace",
            "--out",
            str(out),
        ]
        program = f"import sys; from replog.cli import run; sys.exit(run({arguments!r}))"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
        traces.append((out / "traces" / f"{protocol}-equivocating-leader-sim-2.jsonl").read_bytes())
    assert len(traces[0]) > 100_000
    assert traces[0] == traces[1]
