"""Links found once in a template are where a look at each mail finds them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.mail_links import outline_of
from actors.mail_outlines import marked
from actors.mail_templates import compile_mail
from runtime.templates import TemplateError

PIECES = [
    "{{ a }}", "{{b}}", "{{ a | default('x') }}", '{{b|default("y z")}}', "<a href='{{a}}'>",
    '<a href="https://a.test/{{ b }}?c=1&amp;d={{a}}">', "<a href=https://b.test/>", "<a {{a}}>",
    "<a href={{b}}>", '<a title="{{ a }}" href="https://c.test/">', "<!-- {{a}} -->", "<{{a}}>",
    "<!--[if mso]>", "<![endif]-->", "<style>", "{{b}}</style>", "</body>", "<body>", "text\n",
    "&{{a}};", "<p class='{{ b }}'>", "</p>", "<a", " ", ">", "'", '"', "<", "=", "{{ a }}>",
    "</{{b}}>", "\r\n", "<area href='https://d.test/'>", "{% if a %}", "{% endif %}",
    "{{ a | upper }}", "{# x #}", "-", "<textarea>{{a}}</textarea>", "<img src='{{a}}",
    "{{ a | default('<a href=\"https://e.test/\">') }}",
]  # fmt: skip
templates = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
values = st.sampled_from(
    ["", "x", "x y", "https://v.test/", "a href=https://v.test/ ", "-->", "--", "/style", "'", '"',
     "<a href='https://v.test/'>", "></body>", "=", "&amp;", "amp", "/", "!--", "\ue000",
     "\ue000\ue000", "x='y'", "\n", "\t", "{{ b }}", None, 7]
)  # fmt: skip


@given(templates, values, values)
@example("<a href='{{a}}'>{{b}}</body>\n", "https://v.test/", "x")
@example("<a href='https://a.test/'>{{a}}", "\ue000\ue000", "x")
def test_what_is_found_once_is_what_each_mail_has(source: str, a: Any, b: Any) -> None:
    try:
        template = compile_mail(source, "")
    except TemplateError:
        return
    context = {"a": a, "b": b}
    html, _ = template.render(context)
    same, _, outline = template.render_outlined(context)
    assert same == html
    assert outline is None or outline == outline_of(html)


@pytest.mark.parametrize(
    ("source", "is_marked"),
    [
        ("<p>Hi {{ contact.first_name | default('there') }}</p><a href='https://a.test/'>", True),
        ("<a title='{{ a }}' href='https://a.test/{{ b }}'>", True),
        ("<title>{{ a }}</title>", True),
        ("<a {{ a }} href='https://a.test/'>", False),
        ("<a href={{ a }}>", False),
        ("<!-- {{ a }} -->", False),
        ("<{{ a }}>", False),
        ("{% if a %}x{% endif %}", False),
        ("{{ a | default('<b>') }}", False),
        ("{{ '}}' }}", False),
        ("a \ue000 b", False),
    ],
)
def test_templates_that_fields_could_change_are_looked_at_each_time(
    source: str, *, is_marked: bool
) -> None:
    assert (marked(source) is not None) == is_marked
