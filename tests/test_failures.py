"""Failures are values: the specification's retry table, and the bounds of every backoff."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.failures import (
    LONGEST_DELAY,
    LONGEST_RETRY_AFTER,
    MAX_RETRIES,
    Failure,
    Kind,
    backoff,
)

EXPONENTIAL = (Kind.NETWORK_TIMEOUT, Kind.SERVICE_UNAVAILABLE)
RETRYABLE = (*EXPONENTIAL, Kind.RATE_LIMIT)

asked = st.none() | st.timedeltas(timedelta(0), timedelta(days=400))
jitters = st.floats(0, 1, exclude_max=True)


def _failure(kind: Kind, retry_after: timedelta | None = None) -> Failure:
    return Failure(kind, "code", "message", retry_after)


@pytest.mark.parametrize(
    ("error_type", "kind", "retryable", "max_retries"),
    [
        ("Network timeout", Kind.NETWORK_TIMEOUT, True, 3),
        ("Rate limit", Kind.RATE_LIMIT, True, 5),
        ("Invalid config", Kind.INVALID_CONFIG, False, 0),
        ("Service unavailable", Kind.SERVICE_UNAVAILABLE, True, 3),
        ("Authentication", Kind.AUTHENTICATION, False, 0),
    ],
)
def test_the_retry_table_is_the_specification_s(
    error_type: str, kind: Kind, retryable: bool, max_retries: int
) -> None:
    failure = _failure(kind)
    assert failure.retryable is retryable, error_type
    delays = [backoff(failure, n) for n in range(max_retries + 1)]
    assert [delay is not None for delay in delays] == [True] * max_retries + [False]


def test_what_the_specification_does_not_name_is_not_retried() -> None:
    named = {Kind.NETWORK_TIMEOUT, Kind.RATE_LIMIT, Kind.SERVICE_UNAVAILABLE}
    assert {kind for kind in Kind if MAX_RETRIES[kind] > 0} == named
    assert set(MAX_RETRIES) == set(Kind)


@given(st.sampled_from(EXPONENTIAL), st.integers(0, 2), jitters)
def test_exponential_backoff_doubles_from_two_seconds_with_full_jitter(
    kind: Kind, retries: int, jitter: float
) -> None:
    delay = backoff(_failure(kind), retries, lambda: jitter)
    assert delay is not None
    assert timedelta(0) <= delay <= timedelta(seconds=2 * 2**retries) <= LONGEST_DELAY
    assert delay == timedelta(seconds=2 * 2**retries) * jitter


@given(st.integers(0, 4), jitters)
def test_a_rate_limit_backs_off_by_five_seconds_more_each_time(retries: int, jitter: float) -> None:
    delay = backoff(_failure(Kind.RATE_LIMIT), retries, lambda: jitter)
    assert delay == timedelta(seconds=5 * (retries + 1))


@given(st.sampled_from(RETRYABLE), st.integers(0, 2), asked, jitters)
def test_retry_after_is_honoured_up_to_a_day(
    kind: Kind, retries: int, retry_after: timedelta | None, jitter: float
) -> None:
    own = backoff(_failure(kind), retries, lambda: jitter)
    delay = backoff(_failure(kind, retry_after), retries, lambda: jitter)
    assert own is not None
    assert delay == max(own, min(retry_after or timedelta(0), LONGEST_RETRY_AFTER))


@given(st.sampled_from(Kind), st.integers(0, 10_000), asked)
def test_retries_come_to_an_end_whatever_the_other_side_asks_for(
    kind: Kind, retries: int, retry_after: timedelta | None
) -> None:
    delay = backoff(_failure(kind, retry_after), retries)
    assert (delay is None) is (retries >= MAX_RETRIES[kind])
    assert delay is None or delay <= LONGEST_RETRY_AFTER
