"""Options: defaults that fit together, and refusals that name field, value and rule."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pbft import SPEC


def test_defaults_are_the_papers_and_fit_together() -> None:
    options = SPEC.options({})
    assert (options.checkpoint_interval, options.log_window, options.auth) == (128, 256, "signatures")
    rules = SPEC.client_rules(4, 1, options)
    assert rules.reply_quorum == 2
    assert rules.retry_all
    assert 4 * rules.retry_us <= options.view_timeout_us


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, 16_384),
        ({"robust": True}, 1_024),
        ({"robust": ["turns"]}, 1_024),
        ({"robust": ["floor"]}, 16_384),
        ({"robust": True, "batch_operations_max": 512}, 512),
        ({"robust": True, "request_operations_max": 4_096}, 4_096),
    ],
)
def test_p36_clients_know_how_many_operations_a_request_may_have(given: dict[str, Any], most: int) -> None:
    """One request is executed as a whole, however long all others wait."""
    assert SPEC.client_rules(4, 1, SPEC.options(given)).request_operations_max == most


def test_p38_where_anything_is_measured_backups_are_sent_a_sample() -> None:
    assert SPEC.client_rules(4, 1, SPEC.options({})).sample == 0
    assert SPEC.client_rules(4, 1, SPEC.options({"robust": ["floor"]})).sample == 0.25


@pytest.mark.parametrize(("n", "f", "weak", "quorum"), [(4, 1, 2, 3), (6, 1, 2, 4), (7, 2, 3, 5), (10, 3, 4, 7)])
def test_p39_clients_want_a_weak_quorum_and_a_quorum_for_what_is_not_decided(
    n: int, f: int, weak: int, quorum: int
) -> None:
    rules = SPEC.client_rules(n, f, SPEC.options({"tentative": True}))
    assert (rules.reply_quorum, rules.read_quorum, rules.tentative_quorum) == (weak, quorum, quorum)
    rules = SPEC.client_rules(n, f, SPEC.options({"fast_reads": False}))
    assert (rules.read_quorum, rules.tentative_quorum) == (0, 0), "never believed where no replica says it"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"log_window": 300}, ["log_window = 300", "checkpoint_interval = 128", "multiple"]),
        ({"log_window": 128}, ["log_window = 128", "at least 2"]),
        ({"auth": "none"}, ["auth", "signatures"]),
        ({"colour": "red"}, ["colour", "Extra inputs"]),
        ({"view_timeout_us": "1s"}, ["view_timeout_us", "1s", "valid integer"]),
        ({"view_timeout_us": 0}, ["view_timeout_us", "greater than or equal to 1"]),
        ({"view_timeout_us": 2_000_000, "view_timeout_cap_us": 1_000_000}, ["view_timeout_cap_us = 1000000"]),
        ({"status_interval_us": 500_000}, ["status_interval_us = 500000", "view_timeout_us"]),
        (
            {"request_operations_max": 20_000},
            ["request_operations_max = 20000", "batch_operations_max = 16384"],
        ),
        ({"request_bytes_max": 2**21}, ["request_bytes_max = 2097152", "batch_bytes_max = 1048576"]),
        ({"robust": "yes"}, ["robust\n", "must be true, false, or a list of measures, each once: heartbeat, floor"]),
        ({"robust": ["hearbeat"]}, ["robust\n", "['hearbeat']", "a list of measures, each once: heartbeat, floor"]),
        ({"robust": ["floor", "floor"]}, ["['floor', 'floor']", "each once"]),
        (
            {"robust": ["rotation"], "view_length_us": 499_999},
            ["must be at least view_timeout_us / 2 (view_length_us = 499999, view_timeout_us = 1000000)"],
        ),
        ({"in_flight_max": 257}, ["in_flight_max = 257", "log_window = 256"]),
    ],
)
def test_a_wrong_option_is_refused_by_name(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as refusal:
        SPEC.options(given)
    for word in words:
        assert word in str(refusal.value)


def test_how_long_a_view_lasts_matters_where_it_is_measured_alone() -> None:
    given = {"view_timeout_us": 200_000_000, "view_timeout_cap_us": 200_000_000}
    for robust in (False, ["floor"]):
        assert SPEC.options({**given, "robust": robust}).view_length_us == 60_000_000
    SPEC.options({"robust": True, "view_length_us": 500_000})


def test_options_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError):
        SPEC.options({}).log_window = 512


@pytest.mark.parametrize(("n", "f"), [(3, 1), (6, 2), (4, -1), (0, 0)])
def test_too_few_replicas_are_refused(n: int, f: int) -> None:
    with pytest.raises(ValueError, match=f"n = {n}, f = {f}"):
        SPEC.check_size(n, f)


def test_sizes_by_the_paper() -> None:
    assert [SPEC.replicas(f) for f in range(4)] == [1, 4, 7, 10]
    assert [SPEC.faults(n) for n in (1, 3, 4, 6, 7)] == [0, 0, 1, 1, 2]
