"""Merge fields: what they render, and that no template can hold a worker up."""

import json
import string
import tracemalloc
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, get_args
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup, escape

from runtime import template_filters, template_limits, templates
from runtime.template_limits import MAX_OUTPUT, MAX_SOURCE, Budget
from runtime.templates import TemplateError, compile_text, compile_value


class Plan(str, Enum):  # noqa: UP042 - StrEnum would not show the difference of str()
    GOLD = "gold"


MEGABYTE = 1 << 20
CODES = set(get_args(template_limits.ErrorCode))

CONTEXT: dict[str, Any] = {
    "contact": {
        "first_name": "Ada",
        "last_name": None,
        "age": 41,
        "score": Decimal("12.50"),
        "vip": True,
        "phone": "+12125550100",
        "birthday": date(1984, 12, 10),
        "tags": ["new", "vip"],
        "orders": [{"id": "A-1", "total": 20.5}, {"id": "A-2", "total": 7}],
        "plan": Plan.GOLD,
        "custom_fields": {"company_name": "Acme & Sons", "html": "<b>", "braces": "{{7*7}}"},
    },
    "workflow": {"execution_date": datetime(2026, 3, 9, 14, 5, tzinfo=UTC)},
    "steps": {"tag": {"tag_id": "t-17"}},
    "hundred": list(range(100)),
    "big": "x" * 600_000,
    "deep": [[[[["leaf"]]]]],
}


def render(source: str, context: dict[str, Any] | None = None, *, html: bool = False) -> str:
    return compile_text(source, html=html).render(CONTEXT if context is None else context)


def error_of(source: str, context: dict[str, Any] | None = None) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        render(source, context)
    return caught.value


# --- what is rendered ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Hello {{contact.first_name}}!", "Hello Ada!"),
        ("{{contact.custom_fields.company_name}}", "Acme & Sons"),
        ("{{ contact['custom_fields']['company_name'] }}", "Acme & Sons"),
        ("{{workflow.execution_date | date_format('YYYY-MM-DD')}}", "2026-03-09"),
        ("{{ steps.tag.tag_id }}", "t-17"),
        ("{{ contact.tags.0 }}{{ contact.tags[-1] }}{{ contact.tags[9] }}", "newvip"),
        ("{{ contact.plan }}{{ contact.plan ~ '' }}", "goldgold"),
        ("{{ contact.tags }}", '["new", "vip"]'),
        ("{{ contact.orders[0] }}", '{"id": "A-1", "total": 20.5}'),
        ("{{ contact.vip }} {{ contact.score }} {{ contact.birthday }}", "true 12.50 1984-12-10"),
        ("{{ workflow.execution_date }}", "2026-03-09T14:05:00+00:00"),
        ("{{ contact.age + 1 }} {{ contact.age // 2 }} {{ contact.age % 5 }}", "42 20 1"),
        ("{{ contact.score * 2 }} {{ contact.score * 0.5 }} {{ -contact.age }}", "25.00 6.250 -41"),
        ("{{ 0.5 * contact.score }} {{ +contact.age }} {{ 'a' + 'b' }}", "6.250 41 ab"),
        ("{{ contact.first_name[0] }}{{ contact.first_name[1:] }}", "Ada"),
        ("{{ contact.tags[::-1] | join('/') }}", "vip/new"),
        ("{{ 'adult' if contact.age >= 18 else 'child' }}", "adult"),
        ("{{ contact.first_name ~ ' ' ~ contact.age }}", "Ada 41"),
        ("{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 != 2 }}", "true false true"),
        ("{% if 'vip' in contact.tags %}yes{% else %}no{% endif %}", "yes"),
        ("{{ contact.first_name in ['Eve', 'Ada'] }} {{ 'd' in contact.first_name }}", "true true"),
        ("{{ 'x' not in ('x',) }} {{ 'age' in contact }}", "false true"),
        ("{% for o in contact.orders if o.total > 10 %}{{ o.id }}{% endfor %}", "A-1"),
        ("{% for t in contact.tags %}{{ loop.index }}{{ t }}{{ loop.last }} {% endfor %}",
         "1newfalse 2viptrue "),
        ("{% for k in contact.custom_fields %}{{ loop.cycle }}{{ k }},{% endfor %}",
         "company_name,html,braces,"),
        ("{% for x in contact.nothing %}{{ x }}{% else %}none{% endfor %}", "none"),
        ("a{# a comment #}b", "ab"),
        ("{% raw %}{{ kept }}{% endraw %}", "{{ kept }}"),
        ("@media print{#m{top:0}} {{ contact.age }}", "@media print{#m{top:0}} 41"),
        ("a  {{- contact.age -}}  b\n", "a41b\n"),
    ],
)  # fmt: skip
def test_a_template_renders(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[{{ contact.last_name }}]", "[]"),
        ("[{{ contact.a.b.c }}{{ nobody }}{{ nobody.at.all[3]['x'] }}]", "[]"),
        ("[{{ contact.first_name.upper }}{{ contact.tags.append }}{{ contact.items }}]", "[]"),
        ("[{{ nobody + 1 }}{{ 1 * contact.last_name }}{{ -nobody }}{{ nobody[1:] }}]", "[]"),
        ("[{{ nobody > 1 }}{{ nobody < 1 }}]", "[falsefalse]"),
        ("{{ nobody == none }} {{ contact.last_name == nobody }}", "true true"),
        ("{{ 1 in nobody }} {{ 1 not in nobody }}", "false true"),
        ("{{ nobody | default('x') }}{{ contact.last_name | default('y') }}", "xy"),
        ("{{ nobody.at.all | d(1) }}", "1"),
        ("{{ '' | default('x') }}{{ '' | default('x', true) }}{{ 0 | default(1) }}", "x0"),
        ("{{ contact.last_name is defined }} {{ contact.last_name is none }}", "false true"),
        ("{{ nobody is undefined }} {{ nobody is even }} {{ nobody is odd }}", "true false false"),
        ("[{{ nobody | upper | date_format }}{{ nobody | round }}{{ nobody | abs }}]", "[]"),
        ("[{{ nobody | join(',') }}{{ nobody | number_format }}{{ nobody | first }}]", "[]"),
        ("{{ nobody | length }} {{ nobody | int }} {{ nobody | tojson }}", "0 0 null"),
        ("{{ contact.last_name or 'friend' }}", "friend"),
    ],
)  # fmt: skip
def test_what_is_missing_or_none_is_empty(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'ada' | upper", "ADA"),
        ("'ADA' | lower", "ada"),
        ("'o\\'neil van dyke' | title", "O'neil Van Dyke"),
        ("'aDA' | capitalize", "Ada"),
        ("'  a ' | trim", "a"),
        ("'abc' | first ~ 'abc' | last", "ac"),
        ("contact.tags | length", "2"),
        ("contact.orders | join(', ', attribute='id')", "A-1, A-2"),
        ("'1-2-3' | replace('-', '') ~ 'aaa' | replace('a', 'b', 2)", "123bba"),
        ("'one two three' | truncate(9)", "one two…"),
        ("'one two three' | truncate(9, true, '')", "one two t"),
        ("2.5 | round ~ ' ' ~ 2.675 | round(2) ~ ' ' ~ '1234' | round(-2)", "3 2.68 1200"),
        ("1.21 | round(1, 'ceil') ~ ' ' ~ contact.score | round(1, 'floor')", "1.3 12.5"),
        ("'12.9' | int ~ ' ' ~ 'x' | int(7)", "12 7"),
        ("'1.5' | float ~ ' ' ~ 'x' | float", "1.5 0.0"),
        ("-3 | abs ~ ' ' ~ '-2.5' | abs", "3 2.5"),
        ("1234567.891 | number_format", "1,234,568"),
        ("'9800.5' | number_format(2, ',', '.')", "9.800,50"),
        ("'a b&/ü' | urlencode", "a%20b%26/%C3%BC"),
        ("'<a>' | escape", "&lt;a&gt;"),
        ("contact.phone | phone_format", "(212) 555-0100"),
        ("'020 7946 0018' | phone_format('e164', region='GB')", "+442079460018"),
        ("'call me' | phone_format ~ '12' | phone_format", "call me12"),
        ("'a\"b' | tojson", '"a\\"b"'),
        ("4 is even", "true"),
        ("'7' is odd", "true"),
        ("9 is divisibleby 3", "true"),
        ("1.5 is number", "true"),
        ("true is boolean", "true"),
        ("'a' is string", "true"),
    ],
)  # fmt: skip
def test_a_filter_or_test_gives(expression: str, expected: str) -> None:
    assert render("{{ " + expression + " }}") == expected


MARCH_9 = datetime(2026, 3, 9, 8, 5, 7, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "arguments", "expected"),
    [
        (MARCH_9, "'YYYY-MM-DD'", "2026-03-09"),
        (MARCH_9, "'MMMM D, YYYY'", "March 9, 2026"),
        (MARCH_9, "'MMM Do YY'", "Mar 9th 26"),
        (MARCH_9, "'dddd ddd M/D'", "Monday Mon 3/9"),
        (MARCH_9, "'h:mm A hh a'", "8:05 AM 08 am"),
        (MARCH_9, "'HH:mm:ss.SSS ZZ'", "08:05:07.123 +00:00"),
        (MARCH_9, "'DDDD X'", "068 1773043507.123456"),
        (MARCH_9, "'[Today is] dddd'", "Today is Monday"),
        (MARCH_9, "'h:mm A', tz='America/New_York'", "4:05 AM"),
        (MARCH_9, "'YYYY-MM-DD HH:mm', 'Asia/Tokyo'", "2026-03-09 17:05"),
        (MARCH_9.replace(tzinfo=None), "'HH:mm', tz='Europe/Paris'", "09:05"),
        (MARCH_9.astimezone(timezone(timedelta(hours=5))), "'HH:mm'", "13:05"),
        ("2026-03-09T08:05:07Z", "'h:mm A', tz='UTC'", "8:05 AM"),
        (date(2026, 3, 9), "'YYYY-MM-DD', tz='America/New_York'", "2026-03-09"),
        ("2026-03-09", "'D.M.YYYY', tz='Asia/Tokyo'", "9.3.2026"),
        ("", "'YYYY'", ""),
        (None, "'YYYY'", ""),
    ],
)
def test_date_format_writes(value: object, arguments: str, expected: str) -> None:
    assert render("{{ when | date_format(" + arguments + ") }}", {"when": value}) == expected


def test_a_text_names_its_fields() -> None:
    text = compile_text(
        "{{ contact.first_name }} {{ contact['tags'][0].x }} {% for t in contact.tags %}"
        "{{ t.name }}{{ loop.index }}{{ steps.tag.tag_id }}{% else %}{{ t.late }}{% endfor %}"
        "{{ whole }}{{ contact[key] }}{{ a.b[1:] ~ c if d.e == 2 }}"
    )
    assert text.fields == {
        *("contact.first_name", "contact.tags", "steps.tag.tag_id", "t.late", "whole"),
        *("contact", "key", "a.b", "c", "d.e"),
    }
    assert not text.is_static
    assert text.source.startswith("{{ contact.first_name }}")


def test_a_static_text_is_returned_as_it_is() -> None:
    source = "Line one\r\n100 % {of} #1\r\n"
    text = compile_text(source)
    assert text.is_static
    assert text.fields == frozenset()
    assert text.render({}) is source


def test_html_escapes_fields_and_not_what_the_author_wrote() -> None:
    source = "<p>{{ contact.custom_fields.html }}</p>"
    assert render(source, html=True) == "<p>&lt;b&gt;</p>"
    assert render("{{ '<i>' ~ contact.custom_fields.html }}", html=True) == "&lt;i&gt;&lt;b&gt;"
    assert render("{{ contact.custom_fields.html | escape }}", html=True) == "&lt;b&gt;"
    assert render("{{ link }}", {"link": Markup("<a>")}, html=True) == "<a>"
    assert render(source) == "<p><b></p>"


def test_a_context_may_hold_any_mapping_and_set() -> None:
    context = {"contact": MappingProxyType({"tags": frozenset({"vip"}), "empty": ()})}
    assert render("{{ contact.tags }}{{ contact.empty }}", context) == '["vip"][]'
    assert render("{{ contact }}", {"contact": MappingProxyType({"a": 1})}) == '{"a": 1}'
    assert render("{{ 'vip' in contact.tags }}{{ contact.no }}", context) == "true"


def test_a_config_value_keeps_what_has_no_fields() -> None:
    unchanged: Any = {"list": [1, None, True, 2.5, "plain"], "{{ key }}": "x"}
    value = compile_value(
        {"to": "{{ contact.first_name }}", "n": ["a", ["{{ contact.age }}"]], "same": unchanged}
    )
    assert value.fields == {"contact.first_name", "contact.age"}
    assert not value.is_static
    first, second = value.render(CONTEXT), value.render({})
    assert first == {"to": "Ada", "n": ["a", ["41"]], "same": unchanged}
    assert second == {"to": "", "n": ["a", [""]], "same": unchanged}
    assert compile_value(unchanged).is_static
    assert compile_value(unchanged).render(CONTEXT) == unchanged
    assert compile_value("{{ contact.age }}").render(CONTEXT) == "41"


def test_an_error_in_a_config_value_says_where() -> None:
    with pytest.raises(TemplateError) as caught:
        compile_value({"body": {"lines": ["fine", "one\ntwo {{ contact.first_name | uper }}"]}})
    error = caught.value
    assert (error.code, error.line, error.column) == ("template_syntax", 2, 29)
    assert error.path == ("body", "lines", 1)
    assert "did you mean 'upper'?" in error.message
    assert str(error).endswith("(line 2, column 29)")


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("a\n{{ b c }}", 2, 6),
        ("a\r\n  {{ b | }}", 2, 10),
        ("{{ a }} {{ b ~~ c }}", 1, 15),
        ("é {{ 'a }}", 1, 6),
        ("{% if a %}\nx {% endfor %}", 2, 6),
        ("x {%- if a %}", 1, 12),
        ("x {{ a", 1, 6),
        ("{{ a | upper }}\n{{ a | uper | uper }}", 2, 15),
        ("{# x #}{{ (a }}", 1, 14),
        ("{% raw %}{{ b c }}{% endraw %}{{ b c }}", 1, 36),
    ],
)
def test_a_syntax_error_is_told_with_line_and_column(source: str, line: int, column: int) -> None:
    for html in (False, True):
        with pytest.raises(TemplateError) as caught:
            compile_text(source, html=html)
        error = caught.value
        assert (error.code, error.line, error.column) == ("template_syntax", line, column)


def test_one_budget_covers_all_texts_of_a_value() -> None:
    value = compile_value(["{{ big }}!", "{{ big }}!"])
    with pytest.raises(TemplateError) as caught:
        value.render(CONTEXT)
    assert caught.value.code == "template_output_too_long"
    with pytest.raises(TemplateError) as caught:
        compile_value(["{{ contact.first_name }}"] * 1000)
    assert caught.value.code == "template_too_costly"


# --- what ends as an error -----------------------------------------------------------------------

LOOP, END = "{% for a in hundred %}", "{% endfor %}"
LOOPS, ENDS = LOOP * 3, END * 3


def nested(depth: int, opening: str, inside: str, closing: str) -> str:
    return opening * depth + inside + closing * depth


ATTACKS: list[tuple[str, str]] = [
    # much from little: operators
    ("{{ 'x'*10**9 }}", "template_forbidden"),
    ("{{ 'x'*1000000000 }}", "template_forbidden"),
    ("{{ 1000000000*'x' }}", "template_forbidden"),
    ("{{ contact.first_name*1000000000 }}", "template_forbidden"),
    ("{{ contact.tags*1000000000 }}", "template_forbidden"),
    ("{{ contact.age*contact.tags }}", "template_forbidden"),
    ("{{ [1]*1000000000 }}", "template_forbidden"),
    ("{{ (1,)*1000000000 }}", "template_forbidden"),
    ("{{ 10**9999999 }}", "template_forbidden"),
    ("{{ 2**2**2**2**2**2 }}", "template_forbidden"),
    ("{{ '%500000000d' % 1 }}", "template_forbidden"),
    ("{{ ('%500' ~ '000000d') % 1 }}", "template_forbidden"),
    ("{{ '%500000000d' is even }}", "template_failed"),
    ("{{ '%500000000d' is divisibleby(1) }}", "template_failed"),
    ("{{ " + "*".join([f"{10**100}"] * 9) + " }}", "template_too_costly"),
    ("{{ 0x" + "f" * 90_000 + " }}", "template_too_costly"),
    ("{{ " + "9" * 90_000 + " }}", "template_syntax"),
    ("{{ 1e999 }}", "template_too_costly"),
    ("{{ huge * huge }}", "template_too_costly"),
    ("{{ huge }}", "template_too_costly"),
    ("{{ wide | number_format }}", "template_too_costly"),
    ("{{ wide | round }}{{ wide }}", "template_too_costly"),
    ("{{ big ~ big }}", "template_output_too_long"),
    ("{{ big + big }}", "template_output_too_long"),
    ("{{ big }}{{ big }}", "template_output_too_long"),
    ("{{ big }}{{ big | lower }}", "template_output_too_long"),
    ("{{ big | escape ~ big }}", "template_output_too_long"),
    ("{% for a in hundred %}{{ big }}{% endfor %}", "template_output_too_long"),
    # much from little: filters
    ("{{ 'x'|center(999999999) }}", "template_forbidden"),
    ("{{ '%500000000d'|format(1) }}", "template_forbidden"),
    ("{{ 'x'|indent(999999999) }}", "template_forbidden"),
    ("{{ 'x'|wordwrap(1) }}", "template_forbidden"),
    ("{{ hundred|batch(999999999, 'x')|list }}", "template_forbidden"),
    ("{{ hundred|slice(999999999)|list }}", "template_forbidden"),
    ("{{ 'x'|urlize }}", "template_forbidden"),
    ("{{ contact|xmlattr }}", "template_forbidden"),
    ("{{ contact|pprint }}", "template_forbidden"),
    ("{{ contact|attr('__class__') }}", "template_forbidden"),
    ("{{ hundred|map('string')|list }}", "template_forbidden"),
    ("{{ hundred|sum }}", "template_forbidden"),
    ("{{ big|safe }}", "template_forbidden"),
    ("{{ big|replace('x', 'xxxxxxxxxx') }}", "template_output_too_long"),
    ("{{ big|replace('', 'x') }}", "template_output_too_long"),
    ("{{ big|replace('x', big) }}", "template_output_too_long"),
    ("{{ hundred|join(big) }}", "template_output_too_long"),
    ("{{ big|urlencode }}", "template_too_costly"),
    ("{{ big|title }}", "template_too_costly"),
    ("{{ big|phone_format }}", "template_too_costly"),
    ("{{ 1|round(999999999) }}", "template_failed"),
    ("{{ 1|round(-999999999) }}", "template_failed"),
    ("{{ 1|number_format(999999999) }}", "template_failed"),
    ("{{ 1|round(1, 'sideways') }}", "template_failed"),
    ("{{ big|round }}", "template_failed"),
    ("{{ contact.birthday|date_format('" + "[" * 50_000 + "') }}", "template_too_costly"),
    ("{{ big|date_format }}", "template_failed"),
    ("{{ contact.birthday|date_format('YYYY')|date_format(tz=big) }}", "template_failed"),
    ("{{ workflow.execution_date|date_format(tz='../../etc/passwd') }}", "template_failed"),
    ("{{ workflow.execution_date|date_format(tz='America') }}", "template_failed"),
    # loops
    ("{% for a in range(10**9) %}{% endfor %}", "template_forbidden"),
    ("{% for a in range(1000000000) %}{% endfor %}", "template_forbidden"),
    ("{{ range(1000000000)|list }}", "template_forbidden"),
    ("{% for a in [1, 2] %}{% endfor %}", "template_forbidden"),
    ("{% for a in 'ab' %}{% endfor %}", "template_failed"),
    ("{% for a, b in contact.orders %}{% endfor %}", "template_forbidden"),
    ("{% for a in contact.orders recursive %}{{ loop(a) }}{% endfor %}", "template_forbidden"),
    (LOOPS + ENDS, "template_too_costly"),
    (LOOPS + "{{ a }}" + ENDS, "template_too_costly"),
    (LOOPS + "{{ 'x' if a < 5 }}" + ENDS, "template_too_costly"),
    ("{% for a in hundred if big == big %}{% endfor %}", "template_too_costly"),
    ("{% for a in hundred %}{{ (big|lower)|length }}{% endfor %}", "template_too_costly"),
    ("{% for a in hundred %}{{ 'y' in big }}{% endfor %}", "template_too_costly"),
    ("{% for a in hundred %}{{ big[1:]|length }}{% endfor %}", "template_too_costly"),
    (LOOP + LOOP + "{{ 'y' in hundred }}" + END + END, "template_too_costly"),
    (LOOP + LOOP + "{{ hundred|tojson|length }}" + END + END, "template_too_costly"),
    ("{{ many }}", "template_too_costly"),
    ("{{ many|join }}", "template_too_costly"),
    # statements and names
    ("{{ lipsum(n=100000) }}", "template_forbidden"),
    ("{{ lipsum }}", "template_forbidden"),
    ("{{ cycler('a').next() }}", "template_forbidden"),
    ("{{ joiner() }}", "template_forbidden"),
    ("{{ dict(a=1) }}", "template_forbidden"),
    ("{{ namespace(a=1) }}", "template_forbidden"),
    ("{{ {'a': 1} }}", "template_forbidden"),
    ("{{ self }}", "template_forbidden"),
    ("{{ self.__init__.__globals__ }}", "template_forbidden"),
    ("{{ 'a'.__class__.__mro__ }}", "template_forbidden"),
    ("{{ 'a'['__class__']() }}", "template_forbidden"),
    ("{{ __import__('os') }}", "template_forbidden"),
    ("{{ ''.join(hundred) }}", "template_forbidden"),
    ("{{ '{0:999999999}'.format(1) }}", "template_forbidden"),
    ("{{ 'x'.ljust(999999999) }}", "template_forbidden"),
    ("{{ contact.first_name.replace('', 'x') }}", "template_forbidden"),
    ("{% set s = 'x' %}" + "{% set s = s ~ s %}" * 40, "template_forbidden"),
    ("{% set s %}x{% endset %}", "template_forbidden"),
    ("{% with s = 'x' %}{{ s }}{% endwith %}", "template_forbidden"),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "template_forbidden"),
    ("{% call m() %}{% endcall %}", "template_forbidden"),
    ("{% filter upper %}x{% endfilter %}", "template_forbidden"),
    ("{% block b %}{% endblock %}{{ self.b() }}", "template_forbidden"),
    ("{% include 'x' %}", "template_forbidden"),
    ("{% import 'x' as y %}", "template_forbidden"),
    ("{% from 'x' import y %}", "template_forbidden"),
    ("{% extends 'x' %}", "template_forbidden"),
    ("{% autoescape false %}{{ contact.age }}{% endautoescape %}", "template_forbidden"),
    ("{{ 'a'|replace(*hundred) }}", "template_forbidden"),
    ("{{ 'a'|replace(**contact) }}", "template_forbidden"),
    ("{{ 1 is callable }}", "template_forbidden"),
    # size and depth of the template itself
    ("x" * (MAX_SOURCE + 1), "template_too_long"),
    ("{{ a }}" * 1_000, "template_too_costly"),
    ("{{ a" + " + a" * 20_000 + " }}", "template_too_costly"),
    ("{{ a" + " + a" * 100 + " }}", "template_too_costly"),
    ("{{ a" + "|upper" * 100 + " }}", "template_too_costly"),
    ("{{ a" + ".b" * 100 + " }}", "template_too_costly"),
    ("{{ " + nested(10_000, "(", "a", ")") + " }}", "template_too_costly"),
    ("{{ " + nested(50, "(", "a", ")") + " }}", "template_too_costly"),
    ("{{ 1 in " + nested(50, "[", "a", "]") + " }}", "template_too_costly"),
    ("{{ " + "not " * 1_900 + "a }}", "template_too_costly"),
    ("{{ " + "-" * 1_900 + "a }}", "template_too_costly"),
    ("{{ " + "a if b else " * 400 + "a }}", "template_too_costly"),
    ("{{ a" + " and a" * 100 + " }}", "template_too_costly"),
    (nested(300, "{% if a %}", "x", "{% endif %}"), "template_too_costly"),
    ("{% if a %}" + "{% elif a %}x" * 200 + "{% endif %}", "template_too_costly"),
    (nested(30, "{% for a in b %}", "x", "{% endfor %}"), "template_too_costly"),
    # mistakes
    ("{{ contact.first_name", "template_syntax"),
    ("{{ }}", "template_syntax"),
    ("{% if %}", "template_syntax"),
    ("{% nonsense %}", "template_syntax"),
    ("{{ 'a }}", "template_syntax"),
    ("{{ 'a' | nonsense }}", "template_syntax"),
    ("{{ 'a' is nonsense }}", "template_syntax"),
    ("{{ 'a' | upper(1) }}", "template_syntax"),
    ("{{ 'a' | replace }}", "template_syntax"),
    ("{{ 'a' | default(valeu=1) }}", "template_syntax"),
    ("{% for loop in hundred %}{% endfor %}", "template_syntax"),
    ("{{ 1 / 0 }}", "template_failed"),
    ("{{ contact.score / 0 }}", "template_failed"),
    ("{{ 'a' + 1 }}", "template_failed"),
    ("{{ -contact.tags }}", "template_failed"),
    ("{{ contact.age > 'a' }}", "template_failed"),
    ("{{ contact.tags == contact.tags }}", "template_failed"),
    ("{{ 1 in 2 }}", "template_failed"),
    ("{{ contact.age[1:] }}", "template_failed"),
    ("{{ contact.tags['a':] }}", "template_failed"),
    ("{{ contact[contact] }}", "template_failed"),
    ("{{ 'soon' | date_format }}", "template_failed"),
    ("{{ 'x' | round }}", "template_failed"),
    ("{{ contact.age | length }}", "template_failed"),
    ("{{ contact.age | join }}", "template_failed"),
    ("{{ contact.phone | phone_format('morse') }}", "template_failed"),
    ("{{ circle }}", "template_failed"),
    ("{{ circle | upper }}", "template_failed"),
]  # fmt: skip

CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
HOSTILE_CONTEXT = CONTEXT | {
    "huge": 10**1000,
    "wide": Decimal("1E+999999"),
    "many": list(range(100_000)),
    "circle": CIRCLE,
}


@pytest.mark.parametrize(("source", "code"), ATTACKS, ids=[source[:60] for source, _ in ATTACKS])
def test_a_bad_template_ends_as_a_clear_error_without_using_memory(source: str, code: str) -> None:
    compile_text("{{ a | upper }}")  # builds Jinja's environment, whose memory is not the attack's
    tracemalloc.start()
    try:
        error = error_of(source, HOSTILE_CONTEXT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code == code
    assert error.message
    assert peak < 32 * MEGABYTE  # a number of 90,000 digits alone takes the lexer 25


def test_huge_output_is_given_up_while_it_is_made() -> None:
    seen: list[int] = []

    class Watching(Budget):
        __slots__ = ()

        def emit(self, length: int) -> None:
            seen.append(length)
            super().emit(length)

    with patch.object(templates, "Budget", Watching), pytest.raises(TemplateError):
        render("{% for a in hundred %}{{ big }}{% endfor %}")
    assert seen == [600_000, 600_000]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("one\n{{ contact.age }}\n{{ 1 / 0 }}", 3),
        ("one\n{{ huge }}", 2),
        ("one\n{{ circle }}", 2),
        ("one\n\n{{ 'soon' | date_format }}", 3),
        ("{% if true %}\n{{ 'x' * contact.age }}{% endif %}", 2),
        ("one\n{% endif %}", 2),
        ("one\n{% for loop in hundred %}{% endfor %}", 2),
    ],
)
def test_an_error_names_its_line(source: str, line: int) -> None:
    assert error_of(source, HOSTILE_CONTEXT).line == line


def test_errors_quote_no_contact_data() -> None:
    secret = {"contact": {"note": "hunter2"}}
    for name in ("round", "date_format", "join(',')", "abs"):
        error = error_of("{{ contact.note | " + name + " }}", secret)
        assert "hunter2" not in str(error)


def test_a_value_nested_too_deeply_is_refused() -> None:
    value: Any = "x"
    for _ in range(500):
        value = [value]
    with pytest.raises(TemplateError) as caught:
        compile_value(value)
    assert caught.value.code == "template_too_costly"
    assert error_of("{{ deep }}", {"deep": value_of_depth(5_000)}).code == "template_too_costly"


def value_of_depth(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_every_filter_says_what_it_does() -> None:
    for name, function in template_filters.FILTERS.items():
        assert function.__doc__, name


def test_every_error_code_is_one_that_an_attack_ends_with() -> None:
    assert {code for _, code in ATTACKS} == CODES


# --- laws ----------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["contact", "steps", "big", "hundred", "x", "self", "range", "loop", "deep"]
)
LITERALS = st.one_of(
    st.integers(-(10**30), 10**30).map(str),
    st.floats(allow_nan=False).map(repr),
    st.text(string.printable, max_size=8).map(json.dumps),
    st.sampled_from(["true", "none", "'%99999999d'", "[1, 'a']", "(1,)", "{}", "1e9", "10000000"]),
)
FILTER_CALLS = st.one_of(
    st.sampled_from(sorted(template_filters.FILTERS)),
    st.sampled_from(
        ["center(99999999)", "list", "format(1)", "replace('', 'xxxxxxxx')", "round(99)"]
    ),
)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", ">=", "in", "not in", "and"]
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner),
        st.builds("{}.{}".format, inner, st.sampled_from(["first_name", "tags", "0", "__class__"])),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("({})[{}:{}]".format, inner, inner, inner),
        st.builds("{}|{}".format, inner, FILTER_CALLS),
        st.builds("({}|replace({}, {}))".format, inner, inner, inner),
        st.builds("({}|round({}))".format, inner, inner),
        st.builds("({}|date_format({}, tz={}))".format, inner, inner, inner),
        st.builds("({} is {})".format, inner, st.sampled_from(["even", "divisibleby 3"])),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(-{})".format, inner),
        st.builds("{}({})".format, inner, inner),
    )  # fmt: skip


EXPRESSIONS = st.recursive(st.one_of(NAMES, LITERALS), compound, max_leaves=12)


def statements(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, EXPRESSIONS, inner, inner),
        st.builds("{{% for x in {} %}}{}{{% endfor %}}".format, EXPRESSIONS, inner),
        st.builds("{{% set x = {} %}}{}".format, EXPRESSIONS, inner),
    )


TEMPLATES = st.recursive(
    st.one_of(st.text(max_size=10), EXPRESSIONS.map("{{{{ {} }}}}".format)),
    statements,
    max_leaves=6,
)
TOKENS = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "|",
    ".",
    ",",
    "'",
    "==",
]
WORDS = ["if", "for", "in", "endif", "endfor", "else", "not", "raw", "endraw", "x", "contact", "1"]
SOUP = st.lists(st.sampled_from([*TOKENS, *WORDS, " ", "-", "\n", "\r", "\\", "é", "\ud800", "0x"]))


def outcome(source: str, context: dict[str, Any], *, html: bool = False) -> tuple[Any, ...]:
    try:
        return (render(source, context, html=html),)
    except TemplateError as error:
        return (error.code, error.message, error.line)


@given(source=TEMPLATES, html=st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_template_ends_as_bounded_text_or_template_error(source: str, html: bool) -> None:
    result, *error = outcome(source, HOSTILE_CONTEXT, html=html)
    assert type(result) is str
    assert len(result) <= MAX_OUTPUT
    assert not error or result in CODES


@given(source=SOUP.map("".join))
@settings(max_examples=300, deadline=None)
def test_any_soup_of_tokens_ends_as_text_or_template_error(source: str) -> None:
    _, *error = outcome(source, HOSTILE_CONTEXT)
    assert not error or error[0]


KEYS = st.sampled_from(["a", "b", "first_name", "0", "größe"])
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just(10**1000)),
    *(st.decimals(), st.dates(), st.datetimes(), st.binary(max_size=3), st.just(Markup("<b>"))),
    st.just(Plan.GOLD),
)
CONTEXTS = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner)),
        max_leaves=8,
    ),
)
PATHS = st.lists(KEYS, min_size=1, max_size=4).filter(lambda keys: keys[0] != "0").map(".".join)
FIELDS = st.builds(
    "{}{}{}".format, st.sampled_from(["{{", "{{- ", "{{ "]), PATHS, st.sampled_from(["}}", " -}}"])
)
PLAIN = st.lists(st.one_of(FIELDS, st.text(" \n<&abc", max_size=5)), max_size=6).map("".join)


@given(source=PLAIN, context=CONTEXTS, html=st.booleans())
@settings(max_examples=300, deadline=None)
def test_plain_fields_render_as_jinja_renders_them(
    source: str, context: dict[str, Any], html: bool
) -> None:
    direct = outcome(source, context, html=html)
    with patch.object(templates, "_plain_parts", lambda _tree: None):
        by_jinja = outcome(source, context, html=html)
    assert direct == by_jinja


@given(value=st.text(st.sampled_from("{}%#|7* 'a<&")) | st.just("{{7*7}}"))
def test_a_value_is_never_evaluated_again(value: str) -> None:
    context = {"contact": {"first_name": value}}
    assert render("{{ contact.first_name }}", context) == value
    assert render("{{ contact.first_name ~ '' }}", context) == value
    assert render("<{{ contact.first_name }}>", context, html=True) == f"<{escape(value)}>"
    assert compile_value(["{{ contact.first_name }}"]).render(context) == [value]


@given(source=st.text().filter(lambda text: not any(d in text for d in ("{{", "{%", "{#"))))
def test_text_without_delimiters_is_its_own_rendering(source: str) -> None:
    text = compile_text(source)
    assert text.is_static
    assert text.render({}) == source


@pytest.mark.parametrize(
    "source", ["{{ '\\x00' }}", "{{ '\\ud800' }}", "{{ x|default('a\\x00') }}"]
)
def test_no_template_writes_what_the_database_cannot_store(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_text(source)
    assert caught.value.code == "template_forbidden"
