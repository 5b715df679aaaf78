"""Machines that open mails and follow their links before, or instead of, the person.

Scanners follow every link within seconds, Apple's Mail Privacy Protection loads every picture
whether the mail is read or not, and chat programs ask for previews. Gmail's and Yahoo's picture
proxies ask when a person opens the mail: they are people. What is looked at here is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

SOON: Final = timedelta(seconds=10)
"""Nobody has received, opened and read a mail within this time of its being sent."""

_AGENTS: Final = re.compile(
    r"(?<!cu)bot\b|crawl|spider|scan(?:ner|\b)|preview|prefetch|monitor|headless|phantomjs|selenium"
    r"|\bcurl|\bwget|python|\bjava/|okhttp|go-http-client|httpclient|libwww|\bruby|node-fetch|axios"
    r"|barracuda|proofpoint|mimecast|safelinks|ironport|fireeye|forcepoint|sophos|symantec"
    r"|trend ?micro|messagelabs|cloudmark|existence discovery"
    r"|facebookexternalhit|whatsapp|skypeuripreview|slackbot|telegrambot|discordbot|linkexpanding",
    re.IGNORECASE,
)
# All that Mail Privacy Protection says of itself.
_BARE_AGENT: Final = "Mozilla/5.0"
_LONGEST_AGENT: Final = 1_000


def machine_sign(method: str, headers: Mapping[str, str]) -> str | None:
    """Say by what a request is seen to be a machine's: head, prefetch, agent; or None."""
    if method == "HEAD":
        return "head"
    purposes = (headers.get(n, "") for n in ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"))
    if any("prefetch" in purpose or "preview" in purpose for purpose in map(str.lower, purposes)):
        return "prefetch"
    return agent_sign(headers.get("User-Agent", ""))


def agent_sign(agent: str) -> str | None:
    """Say whether a program names itself as one that nobody reads mail with: agent, or None."""
    agent = agent.strip()[:_LONGEST_AGENT]
    return "agent" if agent in ("", _BARE_AGENT) or _AGENTS.search(agent) else None
