"""webhook_call: make an HTTP request with the contact's data and keep the answer if asked to."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors.addresses import Link, literal_prefix, single_line
from actors.fields import Config, MergeText, MergeValue, PlainText, incomplete, misfit, storable
from actors.nested import check
from runtime.registry import ActionType

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
# These say where a request goes and where it ends; whoever sets them can smuggle a second one.
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise PydanticCustomError("header_name", "this is no name that a header may have")
    if name.lower() in _OURS:
        raise PydanticCustomError("header_name", "this header is set by the request itself")
    return name


def _distinct(headers: dict[str, str]) -> dict[str, str]:
    if len({name.lower() for name in headers}) < len(headers):
        raise PydanticCustomError("header_name", "a header is named twice")
    return headers


def _without_credentials(url: str) -> str:
    if "@" in urlsplit(literal_prefix(url)).netloc:
        raise PydanticCustomError(
            "url", "credentials belong to auth_config, where they are kept secret"
        )
    return url


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderText = Annotated[MergeText, AfterValidator(single_line)]
Secret = Annotated[str, Field(min_length=1), AfterValidator(storable), AfterValidator(single_line)]
UserName = Annotated[  # RFC 7617: a colon ends it
    str, Field(pattern=r"^[^:]+$"), AfterValidator(storable), AfterValidator(single_line)
]


class Basic(Config):
    """A user's name and password; the password may be empty."""

    username: UserName
    password: Annotated[PlainText, AfterValidator(single_line)]


class Bearer(Config):
    """A token for `Authorization: Bearer`."""

    token: Secret


class ApiKey(Config):
    """A key in a header of its own."""

    key: Secret
    header: HeaderName = "X-API-Key"


AUTH: Final[dict[str, type[Config]]] = {"basic": Basic, "bearer": Bearer, "api_key": ApiKey}


class WebhookCall(Config):
    """The request, how it authenticates (see Basic, Bearer, ApiKey), and how often it is tried."""

    url: Annotated[Link, AfterValidator(_without_credentials)]
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    headers: Annotated[dict[HeaderName, HeaderText], AfterValidator(_distinct)] = Field(
        default_factory=dict
    )
    payload: dict[PlainText, MergeValue] | None = None
    auth_type: Literal["none", "basic", "bearer", "api_key"] = "none"
    auth_config: dict[PlainText, Any] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=120)] = 30
    retry_on_failure: bool = True
    max_retries: Annotated[int, Field(ge=0, le=10)] = 3
    store_response: bool = False

    @model_validator(mode="after")
    def _credentials_fit_their_type(self) -> WebhookCall:
        if self.auth_type == "none":
            if self.auth_config:
                raise misfit("auth_config", "auth_config", "auth_type says none")
        elif self.auth_config is None:
            raise incomplete("auth_config", f"{self.auth_type} needs credentials")
        else:
            check(AUTH[self.auth_type], self.auth_config, "auth_config")
        return self


ACTION = ActionType(
    name="webhook_call",
    family="webhook",
    config=WebhookCall,
    verbatim=frozenset({"auth_config"}),
)
