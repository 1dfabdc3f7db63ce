"""Liveness, judged after the faults end and against the state that should be reached (HAZARDS X5).

All correct replicas that run have come to the same height, each in its present life, and every client's probe, sent
after the faults had ended, was acknowledged. What happened during the faults is told by the windows of unavailability,
not judged here.
"""

from __future__ import annotations

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Evidence


class Liveness:
    name = "liveness"
    summary = "after the faults end all correct replicas converge and probes of every client are acknowledged"
    safety = False

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: probes and replicas."""
        probes = [call for call in evidence.probes if call.invoke >= evidence.faults_end]
        texts = [f"no answer to {call}, sent after the faults had ended" for call in probes if not call.known]
        if not probes:
            texts.append("no client came to send a probe")
        heights = {node: evidence.decisions[node].height for node in evidence.up}
        top = max(heights.values(), default=0) if evidence.met is None else evidence.met
        behind = [f"node {node} at index {height}" for node, height in heights.items() if height < top]
        if behind:
            texts.append(f"not caught up with index {top}: " + ", ".join(behind))
        return Check(not texts, len(probes) + len(heights), summarise(texts))
