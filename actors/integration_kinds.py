"""The kinds of integration: what each is set up with, which of it is secret, what it sends from.

A kind's settings are a closed model; those of its fields that are secret stand apart from it,
sealed. The addresses are what from_email, from_number and a page's own id are found by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from actors.addresses import is_phone_number, single_line
from actors.contact_addresses import normalize_email
from actors.rendered import UnusableError
from actors.sendgrid_events import public_key

MOST_ADDRESSES: Final = 1000

_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,253}")
_URL: Final = re.compile(r"https?://[^\s\\?#@]{1,2000}")


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise PydanticCustomError("host", "a host name or an IP address is needed")
    return text


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise PydanticCustomError("url", "a link begins with http:// or https:// and names a host")
    return text.rstrip("/")


def _public_key(text: str) -> str:
    try:
        public_key(text)
    except ValueError as error:
        raise PydanticCustomError("public_key", "{reason}", {"reason": str(error)}) from None
    return text.strip()


Line = Annotated[str, StringConstraints(max_length=500), AfterValidator(single_line)]
Host = Annotated[str, AfterValidator(_host)]
Url = Annotated[str, AfterValidator(_url)]


class Settings(BaseModel):
    """The base of the kinds' settings: strict and closed, as configs are."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Smtp(Settings):
    """An SMTP server: SendGrid's relay (user apikey), or any other.

    `security`: starttls on port 587, tls from the first byte on port 465; none only makes sense
    on loopback or in a private network. `webhook_public_key` verifies SendGrid's event webhook.
    `timeout_seconds` bounds each command.
    """

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: Line | None = None
    connections: Annotated[int, Field(ge=1, le=50)] = 4
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 20.0
    webhook_public_key: Annotated[Line, AfterValidator(_public_key)] | None = None

    @property
    def is_sendgrid(self) -> bool:
        """Whether it is SendGrid's relay, or something that reports as SendGrid does."""
        return self.webhook_public_key is not None or self.host.lower().endswith("sendgrid.net")


class Twilio(Settings):
    """A Twilio account; `base_url` is another place of its API, such as an edge."""

    account_sid: Annotated[str, StringConstraints(pattern=r"^AC[0-9a-fA-F]{32}$")]
    base_url: Url = "https://api.twilio.com"
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 20.0


class Facebook(Settings):
    """A Facebook page. Its address is the id that Facebook gave it."""

    app_id: Line | None = None
    base_url: Url = "https://graph.facebook.com"
    api_version: Annotated[str, StringConstraints(pattern=r"^v[0-9]{1,2}\.[0-9]$")] = "v23.0"
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 20.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of integration: its settings, its secrets, and which of those it cannot do without."""

    name: str
    settings: type[Settings]
    secrets: tuple[str, ...]
    needed: frozenset[str]
    address: str
    """What its addresses are: email, phone or page."""
    needs_address: bool = True


KINDS: Final[Mapping[str, Kind]] = {
    "smtp": Kind("smtp", Smtp, ("password",), frozenset(), "email"),
    "twilio": Kind("twilio", Twilio, ("auth_token",), frozenset({"auth_token"}), "phone"),
    "facebook": Kind(
        "facebook",
        Facebook,
        ("page_access_token", "app_secret", "verify_token"),
        frozenset({"page_access_token", "app_secret"}),
        "page",
    ),
}


def normalize_address(kind: str, text: str) -> str:
    """Bring an address that a kind sends from to the form in which it is found.

    E-mail: an address, or `@` and a domain. UnusableError: address_unusable.
    """
    text = text.strip()
    of_kind = {"email": _email, "phone": _phone, "page": _page}[KINDS[kind].address]
    return of_kind(text)


def domain_of(address: str) -> str | None:
    """The entry that stands for all addresses of an e-mail address's domain."""
    _, at, domain = address.rpartition("@")
    return f"@{domain}" if at else None


def _email(text: str) -> str:
    if text.startswith("@"):
        domain = text[1:].lower()
        if not _DOMAIN.fullmatch(domain):
            raise UnusableError("address_unusable", "@ must be followed by a domain")
        return f"@{domain}"
    try:
        return normalize_email(text)
    except UnusableError:
        raise UnusableError("address_unusable", "this is no e-mail address") from None


def _phone(text: str) -> str:
    number = re.sub(r"[\s().-]", "", text)
    if not is_phone_number(number):
        message = "a number in E.164 form is needed, such as +14155550100"
        raise UnusableError("address_unusable", message)
    return number


def _page(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,30}", text):
        raise UnusableError("address_unusable", "the number that Facebook gave the page is needed")
    return text


def read_settings(kind: str, settings: Mapping[str, Any]) -> Any:
    """Read stored settings as the kind's model."""
    return KINDS[kind].settings.model_validate(dict(settings))
