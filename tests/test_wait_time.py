"""wait_time: an exact elapsed time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors import wait_time
from actors.wait_time import WaitTime
from runtime.outcomes import Done, Sleep
from tests.backstage import Backstage

SECONDS = {"minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}


async def test_wait_time_action(backstage: Backstage) -> None:
    """The execution is paused, its resumption scheduled, and what it needs is kept."""
    account = await backstage.account(time_zone="America/New_York")
    version = await backstage.workflow(account, ("wait_time", {"duration": 3, "unit": "days"}))
    async with backstage.stage() as stage:
        items = await backstage.items(stage, version, await backstage.contacts(account, 2))
        outcomes = await wait_time.perform(stage, items)
        until = stage.now + timedelta(seconds=3 * 86_400)
        assert outcomes == [Sleep(until, {"until": until.isoformat()})] * 2
        for item, outcome in zip(items, outcomes, strict=True):
            assert isinstance(outcome, Sleep)
            item.data = dict(outcome.data)
        assert (
            await wait_time.resume(stage, items) == [Done({"waited_until": until.isoformat()})] * 2
        )


@given(
    st.integers(1_577_836_800, 2_208_988_800).map(lambda s: datetime.fromtimestamp(s, UTC)),
    st.integers(1, 500),
    st.sampled_from(sorted(SECONDS)),
)
def test_a_wait_is_exact_elapsed_time_whatever_the_clocks_do(
    begin: datetime, duration: int, unit: str
) -> None:
    config = WaitTime.model_validate({"duration": duration, "unit": unit})
    until = begin + config.elapsed
    assert until.timestamp() - begin.timestamp() == duration * SECONDS[unit]


@pytest.mark.parametrize(
    ("duration", "unit"),
    [(0, "days"), (-1, "days"), (3651, "days"), (10**30, "minutes"), (522, "weeks")],
)
def test_a_wait_is_at_least_one_unit_and_at_most_3650_days(duration: int, unit: str) -> None:
    with pytest.raises(ValidationError):
        WaitTime.model_validate({"duration": duration, "unit": unit})


def test_the_longest_wait_is_allowed() -> None:
    longest = WaitTime.model_validate({"duration": 3650 * 24, "unit": "hours"})
    assert longest.elapsed == timedelta(days=3650)


@pytest.mark.parametrize(
    "config", ['{"duration": 1.5, "unit": "days"}', '{"duration": "1", "unit": "days"}']
)
def test_a_duration_is_a_whole_number(config: str) -> None:
    with pytest.raises(ValidationError):
        WaitTime.model_validate_json(config)
