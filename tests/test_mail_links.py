"""Links of mails are found as browsers find them, and nothing else in the mail is touched."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.mail_links import LONGEST_TARGET, outline_of, rewritten, spliced, target_of

OURS = "https://us.test/t/c/"


def by_way_of_us(target: str) -> str | None:
    """Stands for the signed URLs: those that are ours stay."""
    return None if target.startswith(OURS) else OURS + "token"


def targets(html: str) -> list[str]:
    return [link.target for link in outline_of(html).links]


PIECES = [
    "<a ", "<A\n", "<area ", "<abbr ", "<img ", "<p>", "</p>", "</a>", "<", ">", "/", "/>", "=",
    "'", '"', " ", "\n", "href=", "HREF = ", "data-href=", "xlink:href=", "src=", "x", "&amp;",
    "&copy", "&#38;", "&", "https://a.test/", "http://b.test/?c=1&amp;d=2", "mailto:a@b.test",
    "#top", 'href="https://c.test/"', "href='https://d.test/?e=f&amp;g'", "href=https://e.test/ ",
    OURS, "<!--", "-->", "--!>", "<!--[if mso]>", "<![endif]-->", "<!doctype html>", "<?xml ",
    "<![CDATA[", "<style>", "</style>", "<title>", "</title ", "<script>", "</script>",
    "<plaintext>", "</body>",
    '<v:rect href="https://v.test/">', "\x00", "é", "\U0001f600", "</", "<!", "{{ x }}",
]  # fmt: skip
markup = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=60)


@given(markup, st.sampled_from(["", "<img src='https://p.test/'>"]))
def test_without_what_was_put_in_a_mail_is_what_it_was(html: str, at_end: str) -> None:
    outline = outline_of(html)
    marks = [f"\ue000{n}\ue001" for n, _ in enumerate(outline.links)]
    spliced_in = spliced(html, outline, marks, at_end and "\ue002")
    for mark, link in zip(marks, outline.links, strict=True):
        assert spliced_in.count(mark) == 1
        spliced_in = spliced_in.replace(mark, html[link.start : link.end])
    assert spliced_in.replace("\ue002", "") == html


@given(markup)
def test_rewriting_again_changes_nothing(html: str) -> None:
    once = rewritten(html, by_way_of_us)
    assert rewritten(once, by_way_of_us) == once
    assert not [target for target in targets(once) if not target.startswith(OURS)]


class Reader(HTMLParser):
    """Reads tags as the standard library does; `seen`: tags with their attributes, decoded."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, attrs))


NAMES = ["a", "A", "area", "p", "td", "v:rect", "img", "base", "link", "abbr"]
values = st.sampled_from(
    ["https://a.test/", "http://b.test/?c=1&amp;d=2", "x > y", "mailto:a@b.test", "#a", "1", ""]
)
attributes = st.tuples(
    st.sampled_from(["href", "HREF", "data-href", "src", "title", "style"]),
    values,
    st.sampled_from(["{}='{}'", '{} = "{}"', '{}="{}"']),
).map(lambda told: " " + told[2].format(*told[:2]))
tags = st.tuples(
    st.sampled_from(NAMES), st.lists(attributes, max_size=4), st.sampled_from([">", "/>", " >"])
).map(lambda told: f"<{told[0]}{''.join(told[1])}{told[2]}")
well_formed = st.lists(
    tags | st.sampled_from(["text", "</a>", "<!-- <a href='https://no.test/'> -->", "&nbsp;"])
).map("".join)


@given(well_formed)
def test_only_the_href_of_a_and_area_is_touched(html: str) -> None:
    before, after = Reader(html).seen, Reader(rewritten(html, by_way_of_us)).seen
    for (tag, old), (same, new) in zip(before, after, strict=True):
        assert tag == same
        first = next((n for n, (name, _) in enumerate(old) if name == "href"), None)
        for number, (was, now) in enumerate(zip(old, new, strict=True)):
            is_link = number == first and tag in ("a", "area") and (was[1] or "").startswith("http")
            assert now == (("href", OURS + "token") if is_link else was)


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<a href="https://a.test/?b=1&amp;c=2">', ["https://a.test/?b=1&c=2"]),
        ('<a href="https://a.test/?b=1&amp;amp;c=2">', ["https://a.test/?b=1&amp;c=2"]),
        ('<a href="https://a.test/?b=1&copy=2&lt=3">', ["https://a.test/?b=1&copy=2&lt=3"]),
        ('<a href="https://a.test/&#x3F;b&equals;1">', ["https://a.test/?b=1"]),
        ("<a href = '\n https://a.test/\n b '>", ["https://a.test/ b"]),
        ("<A HREF=https://a.test/b/>", ["https://a.test/b/"]),
        ("<a/href=https://a.test/>", ["https://a.test/"]),
        ("<a x='>' href='https://a.test/'>", ["https://a.test/"]),
        ('<a href="https://a.test/" href="https://b.test/">', ["https://a.test/"]),
        ('<a href href="https://b.test/">', []),
        ('<a x="<a href=\'https://no.test/\'>">', []),
        ("<a href='mailto:a@b.test'><a href='tel:+1'><a href='#x'>", []),
        ("<a href='/x'><a href='//x.test'><a href=''><a href='https://?x'>", []),
        ("<a href='javascript:x'><a href='https:'><a href='https://'><a href='ftp://a.test/'>", []),
        ("<link href='https://a.test/'><base href='https://a.test/'>", []),
        ("<!--[if mso]><a href='https://no.test/'><![endif]-->", []),
        ("<!--[if !mso]><!--><a href='https://a.test/'><!--<![endif]-->", ["https://a.test/"]),
        ("<![if !mso]><a href='https://a.test/'><![endif]>", ["https://a.test/"]),
        ("<!--><a href='https://a.test/'>", ["https://a.test/"]),
        ("<style><a href='https://no.test/'></style ><a href='https://a.test/'>", ["https://a.test/"]),
        ("<textarea><a href='https://no.test/'></text", []),
        ("<a href='https://no.test/", []),
        ("<a href='https://no.test/'", []),
        ("<a href='https://a.test/" + "x" * LONGEST_TARGET + "'>", []),
        ("<a href='https://bücher.test/é'>", ["https://bücher.test/é"]),
    ],
)  # fmt: skip
def test_links_are_found_as_browsers_find_them(html: str, found: list[str]) -> None:
    assert targets(html) == found


@given(st.text(max_size=200))
@example("&#" + "9" * 5_000 + ";")
@example("&" + "x" * 5_000 + ";")
def test_no_value_is_too_odd_to_be_read(value: str) -> None:
    target_of(f"https://a.test/{value}")


HOSTILE = [
    "<", '<a href="', "<a ", "<a href=x ", "<!--", "<!-- --", "<style>", "</ ", "<a/", "<![CDATA[",
    "<div>", "&#", "<a href=https://a.test/&amp;>", "<!-->", "<title></titl", "<a x='", "=",
    "<p x=\"'\" ", "<plaintext", "</body>", "<a\n", "{{ x }}", "<td style='x'>", "-->",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_html_of_megabytes_takes_a_time_in_proportion_to_its_length(piece: str) -> None:
    """Four times as much takes about four times as long; sixteen would be quadratic."""

    def seconds(size: int) -> float:
        html = "<a " + piece * (size // len(piece))
        began = time.process_time()
        outline_of(html)
        outline_of(piece * (size // len(piece)))
        return time.process_time() - began

    few, many = seconds(150_000), seconds(600_000)
    assert many < 10 * few + 0.2
