"""What is wrong with a value is said in one form everywhere."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.configuration import Fault, did_you_mean, faults_of, faults_of_config, path_of


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
