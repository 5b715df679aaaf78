"""What a person's text asks for: to be left alone, to be written to again, or help.

47 CFR 64.1200(a)(10) (FCC 24-24): a reply of stop, quit, end, revoke, opt out, cancel or
unsubscribe revokes consent, and so does any other text that a reasonable person would understand
so. A keyword counts when it is the whole text. Of plain language only what is unmistakable
counts; everything else is a reply for people to read. «Stop by at 5?» is no refusal, nor is «why
did you stop texting me».
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from typing import Final


class Wish(StrEnum):
    """What a text asks for."""

    STOP = "stop"
    START = "start"
    HELP = "help"


_STOP_WORDS: Final = frozenset(
    {"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke"}
    | {"optout", "opt out"}
)
# YES means this only from somebody who has opted out; to others it is an answer.
_START_WORDS: Final = frozenset({"start", "unstop", "yes"})
_HELP_WORDS: Final = frozenset({"help", "info"})

_MESSAGES: Final = r"(?:texts?|text messages?|messages?|msgs?|sms|texting|messaging)"
_ME: Final = r"(?:me|us|this (?:number|phone))"
_WRITE: Final = r"(?:text|message|msg|contact|write to|write|sms)"
_WRITING: Final = r"(?:texting|messaging|contacting|writing to|writing|spamming|bothering)"
_ANY: Final = r"(?:(?:any|more|these|those|all|your) )*"
_LIST: Final = r"(?:your|this|the|all) (?:\w+ )?lists?"
_PLEASE: Final = r"(?:please|pls|plz)"
_POLITE: Final = rf"(?:(?:{_PLEASE}|just|now|kindly|ok|okay|hey|hi|thanks|thank you) )*"
_ASK: Final = r"(?:(?:can|could|would|will) you |you need to )?"
_WISH: Final = r"(?:(?:i (?:want|wish|would like|need)|id like) (?:you )?to )"
_END: Final = (
    rf"(?: (?:from you|{_PLEASE}|now|immediately|any ?more|again|ever|thanks|thank you|at all))*"
)

_PATTERNS: Final = (
    rf"{_PLEASE} (?:stop|unsubscribe|opt out)",
    rf"(?:stop|unsubscribe|opt out) (?:{_PLEASE}|now)",
    rf"(?:{_ASK}|{_WISH})(?:stop|quit) {_WRITING} {_ME}",
    rf"(?:{_ASK}|{_WISH})(?:stop|quit) (?:sending|with) (?:{_ME} )?{_ANY}{_MESSAGES}",
    rf"stop (?:these|those|all|your|the) {_MESSAGES}",
    rf"(?:do not|dont|never) {_WRITE} {_ME}",
    rf"(?:do not|dont) send {_ME} {_ANY}{_MESSAGES}",
    rf"no more {_MESSAGES}",
    rf"(?:{_ASK}|{_WISH})(?:unsubscribe me|opt me out)",
    rf"{_WISH}(?:unsubscribe|opt out|be (?:removed|unsubscribed|taken off))(?: from .{{0,40}})?",
    rf"{_ASK}(?:remove|take|delete|get) (?:me|my number) (?:from|off|out of) (?:of )?{_LIST}",
    rf"i (?:do not|dont|no longer) (?:want|wish) (?:to (?:receive|get) )?{_ANY}{_MESSAGES}",
    r"leave me alone",
    r"(?:lose|delete|forget) my (?:phone )?number",
)
_REFUSALS: Final = re.compile(f"{_POLITE}(?:{'|'.join(_PATTERNS)}){_END}")

_SENTENCE_END: Final = re.compile(r"[.!?;\n,]+")
_APOSTROPHES: Final = re.compile("['\u2019\u0060\u00b4]")
_NOT_A_WORD: Final = re.compile(r"[^\w]+")


def wish_of(text: str) -> Wish | None:
    """Say what a text asks for; None: nothing of the kind, it is a reply."""
    words = _words(text)
    if words in _STOP_WORDS:
        return Wish.STOP
    if words in _START_WORDS:
        return Wish.START
    if words in _HELP_WORDS:
        return Wish.HELP
    sentences = [_words(sentence) for sentence in _SENTENCE_END.split(text[:2000])]
    if any(_REFUSALS.fullmatch(sentence) for sentence in (words, *sentences) if sentence):
        return Wish.STOP
    return None


def _words(text: str) -> str:
    """Bring a text to lower-case words with single spaces; don't becomes dont."""
    plain = unicodedata.normalize("NFKC", text[:2000]).casefold()
    return _NOT_A_WORD.sub(" ", _APOSTROPHES.sub("", plain)).strip()
