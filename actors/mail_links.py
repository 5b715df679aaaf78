"""Where the HTML of a mail is touched: its links and its end, found by position.

A scanner of tags alone, by the rules of the HTML standard's tokenizer (WHATWG, 13.2.5), so that a
browser sees the same tags where we see them. What it does not name stays as it is, byte by byte:
conditional comments, VML, entities, bad nesting. Each character is looked at a bounded number of
times, whatever it says. Positions may be found once in a template's source, provided that its
merge fields were replaced by marks without `<`, `>`, `&`, quotes, slashes and white space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape, unescape
from html.entities import html5
from typing import Final

LONGEST_TARGET: Final = 2_000

_WS: Final = r"\t\n\f\r "
_VALUE: Final = (
    rf"[{_WS}]*+=[{_WS}]*+(?:"
    r'"(?P<double>[^"]*+)"|'
    r"'(?P<single>[^']*+)'|"
    rf"(?P<bare>[^{_WS}>\"'][^{_WS}>]*+)|"
    r"(?=>))"
)
# A value that does not end (a quote that is never closed) is none: the tag goes on to the end.
_ATTRIBUTE: Final = rf"[{_WS}/]*+(?P<name>[^{_WS}/>][^{_WS}/>=]*+)(?>{_VALUE}|(?![{_WS}]*+=))"
_TAG: Final = re.compile(
    rf"</?(?P<tag>[a-zA-Z][^{_WS}/>]*+)"
    rf"(?P<attributes>(?:{re.sub(r'[?]P<[a-z]+>', '?:', _ATTRIBUTE)})*+)[{_WS}/]*+>"
)
_ATTRIBUTES: Final = re.compile(_ATTRIBUTE)
_OPENING: Final = re.compile(r"<(?:(?P<tag>/?[a-zA-Z])|(?P<comment>!--)|[!?/])")
_COMMENT_END: Final = re.compile(r"(?<=<!--)-?>|--!?>")

# Elements whose content is text, up to their end tag (WHATWG, 13.2.6); scripts do not run in mails.
_TEXTUAL: Final = {
    name: re.compile(rf"</{name}(?=[{_WS}/>])", re.IGNORECASE)
    for name in ("iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp")
}

_REFERENCE: Final = re.compile(r"&(?:#(?:[0-9]++|[xX][0-9a-fA-F]++);?|[a-zA-Z][a-zA-Z0-9]*+;?)=?")
_LONGEST_REFERENCE: Final = 40
_AROUND: Final = "".join(map(chr, range(0x21)))
_LINE_BREAKS: Final = re.compile(r"[\t\n\r]")
_WEB: Final = re.compile(r"https?://[^/?#\\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Link:
    """The value of a link's `href`, without its quotes, and the address that it leads to."""

    start: int
    end: int
    target: str


@dataclass(frozen=True, slots=True)
class Outline:
    """The links to the web, in order; `end`: where what is added at the end of a mail is seen."""

    links: tuple[Link, ...]
    end: int


def outline_of(html: str) -> Outline:
    """Find links (`href` of `a` and `area`, http and https) and the end, in one pass.

    The end is before the last `</body>`, or before what is never closed, or behind everything.
    """
    links: list[Link] = []
    end = None
    for construct in constructs(html):
        if (construct.is_open and end is None) or construct.is_body_end:
            end = construct.start
        elif (href := href_of(html, construct)) is not None:
            target = target_of(html[slice(*href)])
            links += [] if target is None else [Link(*href, target)]
    return Outline(tuple(links), len(html) if end is None else end)


@dataclass(slots=True)
class Construct:
    """A tag (with its content, where that is text) or a comment; `is_open`: it never ends."""

    start: int
    end: int
    tag: re.Match[str] | None = None
    name: str = ""
    is_open: bool = False

    @property
    def is_body_end(self) -> bool:
        """Whether it is a `</body>`."""
        return self.name == "/body"


def constructs(html: str) -> Iterator[Construct]:
    """Give all tags and comments in order; behind one that never ends there is none."""
    position = 0
    while (opening := _OPENING.search(html, position)) is not None:
        start, tag, name = opening.start(), None, ""
        if opening["tag"] is None:
            position = _after_comment(html, opening)
        elif (tag := _TAG.match(html, start)) is None:
            position = -1
        else:
            name = tag["tag"].lower()
            is_end = html.startswith("/", start + 1)
            position = tag.end() if is_end else _after_content(html, name, tag.end())
            name = f"/{name}" if is_end else name
        yield Construct(start, position, tag, name, position < 0)
        if position < 0:
            return


def href_of(html: str, construct: Construct) -> tuple[int, int] | None:
    """Where the value of a link's `href` stands, without quotes; None if it is no link."""
    if construct.name not in ("a", "area") or construct.tag is None:
        return None
    for found in _ATTRIBUTES.finditer(html, *construct.tag.span("attributes")):
        if found["name"].lower() == "href":  # of two, the first counts
            value = found.lastgroup
            return None if value in (None, "name") else found.span(value or 0)
    return None


def values_of(html: str, construct: Construct) -> Iterator[tuple[int, int]]:
    """Where the quoted values of a tag's attributes stand."""
    if construct.tag is not None:
        for found in _ATTRIBUTES.finditer(html, *construct.tag.span("attributes")):
            if found.lastgroup in ("double", "single"):
                yield found.span(found.lastgroup)


def _after_comment(html: str, opening: re.Match[str]) -> int:
    """Where a comment ends, or what browsers take for one; -1: nowhere."""
    if opening["comment"] is None:
        return html.find(">", opening.end()) + 1 or -1
    end = _COMMENT_END.search(html, opening.end())
    return -1 if end is None else end.end()


def _after_content(html: str, name: str, position: int) -> int:
    """Where an element of text ends; for others, where their tag does."""
    if name == "plaintext":
        return -1
    if name not in _TEXTUAL:
        return position
    end = _TEXTUAL[name].search(html, position)
    return -1 if end is None else end.start()


def target_of(value: str) -> str | None:
    """Read the web address in an attribute's value; None for any other, and for those too long."""
    if len(value) > 10 * LONGEST_TARGET:
        return None
    target = _LINE_BREAKS.sub("", _REFERENCE.sub(_decoded, value).strip(_AROUND))
    is_short = len(target.encode(errors="replace")) <= LONGEST_TARGET
    return target if is_short and _WEB.match(target) else None


def _decoded(reference: re.Match[str]) -> str:
    """Decode a character reference as in attributes: `&copy=1` is no © (WHATWG, 13.2.5.73)."""
    text, rest = reference[0], ""
    if text.endswith("="):
        text, rest = text[:-1], "="
    if len(text) > _LONGEST_REFERENCE:
        return text + rest
    if text[1] == "#":
        return unescape(text) + rest
    is_whole = text[1:] in html5 and (text.endswith(";") or not rest)
    return (html5[text[1:]] if is_whole else text) + rest


def spliced(html: str, outline: Outline, urls: Iterable[str | None], at_end: str = "") -> str:
    """Put a URL in place of each link (None: it stays) and markup at the end; copies the rest."""
    pieces, done = list[str](), 0
    places = [
        (link.start, link.end, escape(url))
        for link, url in zip(outline.links, urls, strict=True)
        if url is not None
    ]
    if at_end:
        places = sorted([*places, (outline.end, outline.end, at_end)], key=lambda place: place[0])
    for start, end, new in places:
        pieces += (html[done:start], new)
        done = end
    return "".join((*pieces, html[done:]))


def rewritten(html: str, url_of: Callable[[str], str | None], at_end: str = "") -> str:
    """Lead every link to the URL that is given for its target, and put markup at the end."""
    outline = outline_of(html)
    return spliced(html, outline, [url_of(link.target) for link in outline.links], at_end)
