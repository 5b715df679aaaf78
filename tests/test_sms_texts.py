"""Texts: how many segments they take, and what people's replies ask for."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sms_segments import segments_of
from actors.sms_words import Wish, wish_of


@pytest.mark.parametrize(
    ("text", "encoding", "count"),
    [
        ("", "GSM-7", 1),
        ("a" * 160, "GSM-7", 1),
        ("a" * 161, "GSM-7", 2),
        ("a" * 306, "GSM-7", 2),
        ("a" * 307, "GSM-7", 3),
        ("€" * 80, "GSM-7", 1),
        ("€" * 81, "GSM-7", 2),
        # An extended character is not parted: 152 septets, then the euro goes to the next segment.
        ("a" * 152 + "€" * 5, "GSM-7", 2),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 3),
        ("äöüßÆé@ £¥", "GSM-7", 1),
        ("ç", "UCS-2", 1),
        ("ж" * 70, "UCS-2", 1),
        ("ж" * 71, "UCS-2", 2),
        ("ж" * 135, "UCS-2", 3),
        ("😀" * 35, "UCS-2", 1),
        ("😀" * 36, "UCS-2", 2),
        ("a" * 1600, "GSM-7", 11),
    ],
)
def test_segments_are_counted_as_they_are_carried(text: str, encoding: str, count: int) -> None:
    segments = segments_of(text)
    assert (segments.encoding, segments.count) == (encoding, count)


@given(st.text(max_size=400))
def test_segments_are_never_fewer_than_their_units_need(text: str) -> None:
    segments = segments_of(text)
    if segments.encoding == "UCS-2":
        units = len(text.encode("utf-16-be", "surrogatepass")) // 2
        assert units <= (70 if segments.count == 1 else 67 * segments.count)
    else:
        assert len(text) <= (160 if segments.count == 1 else 153 * segments.count)


REFUSALS = """
STOP|stop.|Stop!!|STOPALL|stop all|opt-out|OPT OUT|Optout|UNSUBSCRIBE|cancel|End|QUIT|revoke
please stop texting me|Please stop texting me!|Stop texting me.|Hi, please stop texting me thanks
Don\u2019t text me again|do not contact me anymore|Can you stop texting me?
Who is this? Stop texting me.
please stop|stop please|Remove me from your list|take me off this list|unsubscribe me please
I don't want any more texts from you|I no longer want to receive messages from you|no more texts
stop sending me these messages|I want to unsubscribe from these messages|I'd like to opt out
leave me alone|lose my number
"""
REPLIES = """
stop by at 5?|Please stop by tomorrow|can you stop by|bus stop|why did you stop texting me
did you stop texting me?|don't stop texting me|do not stop sending me messages|stop it|ok
cancel my appointment|end of the month works|should I stop sending you messages?|the end
I'll be at the stop at 5, see you|unstoppable|quitting time is 6|help me|yes please|stop and go
"""


@pytest.mark.parametrize("text", REFUSALS.strip().replace("\n", "|").split("|"))
def test_refusals_are_understood(text: str) -> None:
    assert wish_of(text) is Wish.STOP


@pytest.mark.parametrize("text", REPLIES.strip().replace("\n", "|").split("|"))
def test_what_is_no_unmistakable_refusal_is_a_reply(text: str) -> None:
    assert wish_of(text) is None


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("Start", "start"),
        ("UNSTOP", "start"),
        ("yes!", "start"),
        ("HELP", "help"),
        ("info", "help"),
    ],
)
def test_the_words_that_are_kept_for_it_mean_start_and_help(text: str, wish: str) -> None:
    assert wish_of(text) == wish


@pytest.mark.parametrize(
    "text",
    [
        "please " * 500,
        "stop sending me " + "any more " * 200,
        "stop " * 400,
        "no " * 2000 + "texts",
    ],
)
def test_no_text_takes_long_to_understand(text: str) -> None:
    began = time.process_time()
    wish_of(text)
    assert time.process_time() - began < 0.2
