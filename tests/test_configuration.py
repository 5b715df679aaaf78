"""What is wrong with a value is said in one form everywhere."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.configuration import (
    Fault,
    did_you_mean,
    faults_of,
    faults_of_config,
    path_of,
    sentence,
    summary,
)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    color: str


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Inner] | None = None
    by_name: dict[str, Inner] = {}
    unit: Literal["hours", "days"] = "days"


def test_unknown_fields_at_any_depth_get_the_nearest_name() -> None:
    config = {"parts": [{"color": "red"}, {"colour": "red", "color": "red"}], "prats": []}
    assert faults_of_config(Outer, config, "action_config") == [
        Fault(
            "action_config.parts[1].colour",
            "unknown_field",
            "There is no such field. Did you mean 'color'?",
        ),
        Fault(
            "action_config.prats",
            "unknown_field",
            "There is no such field. Did you mean 'parts'?",
        ),
    ]


def test_an_unknown_option_gets_the_nearest_one() -> None:
    [fault] = faults_of_config(Outer, {"unit": "hour"}, "")
    assert (fault.path, fault.code) == ("unit", "literal_error")
    assert fault.message.endswith("Did you mean 'hours'?")


def test_what_is_near_to_nothing_gets_no_hint() -> None:
    assert did_you_mean("zebra", ["hours", "days"]) == ""
    assert did_you_mean(5, ["hours"]) == ""


def test_a_complete_config_has_no_faults() -> None:
    assert faults_of_config(Outer, {"by_name": {"x": {"color": "red"}}}, "") == []


def test_paths_and_reports_have_bounds() -> None:
    assert path_of(("a" * 500, 3, "b")) == "a" * 100 + "[3].b"
    try:
        Outer.model_validate({f"x{n}": 1 for n in range(1000)})
    except ValidationError as error:
        assert len(faults_of(error, Outer)) == 20  # noqa: PT017 (the report is the subject)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a host is needed", "A host is needed."),
        ("Field required", "Field required."),
        ("What then?", "What then?"),
        ("e-mail is blank.", "E-mail is blank."),
        ("first_name is blank", "The field first_name is blank."),
        ("custom_fields.n is blank", "The field custom_fields.n is blank."),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text: str, written: str) -> None:
    assert sentence(text) == sentence(written) == written


def test_a_summary_names_the_fields_and_says_each_thing_once() -> None:
    required = [Fault(f"a.{n}", "missing", "Field required.") for n in range(5)]
    unknown = Fault("a.x", "unknown_field", "There is no such field.")
    assert summary([*required[:2], unknown]) == (
        "a.0, a.1: Field required. a.x: There is no such field."
    )
    assert summary(required) == "a.0, a.1, a.2, …: Field required."
    assert summary([Fault("", "x", "Something else.")]) == "Something else."
