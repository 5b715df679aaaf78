"""Custom fields: values brought to their types."""

from contextlib import suppress
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.custom_fields import CustomField, custom_field, to_decimal, to_field, to_number
from actors.rendered import UnusableError

BERLIN = ZoneInfo("Europe/Berlin")
NUMBER = CustomField("score", "number")
OPTIONS = ("Small", "Large", "Extra, large")


@pytest.mark.parametrize(
    ("field_type", "value", "stored"),
    [
        ("text", "  Acme ", "Acme"),
        ("text", 12, "12"),
        ("text", True, "true"),
        ("number", " 1234.50 ", 1234.5),
        ("number", "-7", -7),
        ("number", 1e3, 1000),
        ("number", "3.3333333333333335", 3.33333333333333),
        ("number", "0.1e1", 1),
        ("number", -0.0, 0),
        ("boolean", "Yes", True),
        ("boolean", 0, False),
        ("boolean", True, True),
        ("date", "2026-03-29", "2026-03-29"),
        ("date", "2026-03-28T23:30:00+00:00", "2026-03-29"),
        ("date", "9999-12-31", "9999-12-31"),
        ("datetime", "2026-07-01T12:00", "2026-07-01T10:00:00+00:00"),
        ("datetime", "2026-07-01T12:00:00Z", "2026-07-01T12:00:00+00:00"),
        ("datetime", "2026-07-01", "2026-06-30T22:00:00+00:00"),
        ("choice", " large ", "Large"),
        ("multi_choice", "small, LARGE,small", ["Small", "Large"]),
        ("multi_choice", "extra, large", ["Extra, large"]),
        ("multi_choice", ["large", "", "small"], ["Large", "Small"]),
        ("multi_choice", '["Small", "Extra, large"]', ["Small", "Extra, large"]),
    ],
)
def test_a_value_is_brought_to_its_fields_type(field_type: str, value: Any, stored: Any) -> None:
    found = to_field(CustomField("f", field_type, OPTIONS), value, BERLIN)
    assert (found, type(found)) == (stored, type(stored))
    # What is stored can be stored again.
    assert to_field(CustomField("f", field_type, OPTIONS), found, BERLIN) == stored


@pytest.mark.parametrize(
    ("field_type", "value"),
    [
        ("text", ["a"]), ("text", {"a": 1}),
        ("number", "twelve"), ("number", True), ("number", "1,000"), ("number", "NaN"),
        ("number", "1e400"), ("number", 10**15), ("number", "1e-300"), ("number", [1]),
        ("number", "1_000"), ("number", "9" * 65), ("number", float("inf")), ("number", 10**4000),
        ("boolean", "maybe"), ("boolean", 2), ("boolean", 1.0),
        ("date", "29.03.2026"), ("date", "2026-02-30"), ("date", 20260301), ("date", "yesterday"),
        ("datetime", "noon"), ("datetime", "0001-01-01T00:00"), ("datetime", 5),
        ("choice", "medium"), ("choice", ["Small"]), ("choice", 5),
        ("multi_choice", "small;large"), ("multi_choice", "[1"), ("multi_choice", [["Small"]]),
        ("multi_choice", {"a": 1}), ("multi_choice", 5),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_without_quoting_it(field_type: str, value: Any) -> None:
    with pytest.raises(UnusableError) as caught:
        to_field(CustomField("f", field_type, OPTIONS), value, BERLIN)
    assert caught.value.code == "custom_field_unusable"
    assert str(value)[:50] not in caught.value.message


@pytest.mark.parametrize("field_type", ["text", "number", "boolean", "date", "datetime", "choice",
                                        "multi_choice"])  # fmt: skip
@pytest.mark.parametrize("value", [None, "", " \n ", [], ["", None], {}])
def test_a_blank_value_says_nothing(field_type: str, value: Any) -> None:
    assert to_field(CustomField("f", field_type, OPTIONS), value, BERLIN) is None


def test_an_unknown_field_is_answered_with_the_nearest_known_one() -> None:
    fields = {"company_name": CustomField("company_name", "text")}
    with pytest.raises(UnusableError, match="'compny_name'; did you mean 'company_name'"):
        custom_field(fields, "compny_name")
    with pytest.raises(UnusableError, match="no custom field 'zzz'$"):
        custom_field(fields, "zzz")


@given(
    digits=st.integers(-(10**15) + 1, 10**15 - 1),
    places=st.integers(0, 15),
)
def test_fifteen_digits_survive_storage_exactly(digits: int, places: int) -> None:
    exact = Decimal(digits).scaleb(-places)
    stored = orjson.loads(orjson.dumps(to_number(exact, NUMBER)))
    assert to_decimal(NUMBER, stored) == exact


@given(cents=st.lists(st.integers(-(10**9), 10**9), max_size=20))
def test_increments_add_up_as_decimals(cents: list[int]) -> None:
    total: Any = 0
    for amount in cents:
        by = to_decimal(NUMBER, str(Decimal(amount).scaleb(-2)))
        total = to_number(to_decimal(NUMBER, total) + by, NUMBER)
    assert to_decimal(NUMBER, total) == Decimal(sum(cents)).scaleb(-2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(value=JSON, field_type=st.sampled_from(["text", "number", "boolean", "date", "datetime",
                                              "choice", "multi_choice"]))  # fmt: skip
def test_any_json_is_a_value_or_refused_and_nothing_else(value: Any, field_type: str) -> None:
    with suppress(UnusableError):
        orjson.dumps(to_field(CustomField("f", field_type, OPTIONS), value, BERLIN))
