"""webhook_call: make an HTTP request with the contact's data and keep the answer if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors import webhook_hosts
from actors.addresses import Link, literal_prefix, single_line
from actors.fields import Config, MergeText, MergeValue, PlainText, incomplete, misfit, storable
from actors.http_headers import fault_of_name, is_one_line
from actors.nested import check
from actors.rendered import UnusableError, each
from actors.sealed_configs import SEALED, place_of_secret
from actors.webhook_request import EFFECT, LONGEST_TIMEOUT
from runtime.guarded_http import place_of
from runtime.outcomes import Dispatch, EffectRequest, Failed, Outcome
from runtime.registry import ActionType
from runtime.secrets import is_sealed
from runtime.stage import Item, Stage

LARGEST_PAYLOAD: Final = 256 * 1024


def _header_name(name: str) -> str:
    if fault := fault_of_name(name):
        raise PydanticCustomError("header_name", "{reason}", {"reason": fault})
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
    timeout_seconds: Annotated[int, Field(ge=1, le=LONGEST_TIMEOUT)] = 30
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
        elif not is_sealed(self.auth_config.get(SEALED)):  # checked before it was sealed
            check(AUTH[self.auth_type], self.auth_config, "auth_config")
        return self

    @model_validator(mode="after")
    def _a_get_carries_nothing(self) -> WebhookCall:
        # RFC 9110, 9.3.1: content of a GET has no meaning, and servers refuse or drop it.
        if self.method == "GET" and self.payload is not None:
            raise misfit("payload", "payload", "a GET carries none; put it into the URL")
        return self


@dataclass(frozen=True, slots=True)
class _Call:
    """A request as rendered, and the host that it goes to."""

    place: str
    request: dict[str, Any]


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write one request to the ledger for each item; a fixed number of statements for any."""
    calls = each(items, _call)
    hosts = await webhook_hosts.get_or_create(
        stage,
        {
            (item.account_id, call.place)
            for item, call in zip(items, calls, strict=True)
            if isinstance(call, _Call)
        },
    )
    return [
        call
        if isinstance(call, Failed)
        else Dispatch(
            [EffectRequest(EFFECT.kind, call.request, hosts.get((item.account_id, call.place)))]
        )
        for item, call in zip(items, calls, strict=True)
    ]


def _call(item: Item) -> _Call:
    config, values = item.config, item.values
    assert isinstance(config, WebhookCall)
    url = values["url"].strip()
    place = place_of(url)
    if place is None:
        raise UnusableError("url_unusable", "the URL is no http or https URL after rendering")
    for name, value in values["headers"].items():
        if not is_one_line(value):
            raise UnusableError("header_unusable", f"the header {name} has more than one line")
    if len(orjson.dumps(values["payload"])) > LARGEST_PAYLOAD:
        raise UnusableError("payload_too_large", f"the payload is over {LARGEST_PAYLOAD} bytes")
    return _Call(
        place,
        {
            "url": url,
            "method": config.method,
            "headers": values["headers"],
            "payload": values["payload"],
            "timeout_seconds": config.timeout_seconds,
            "max_retries": config.max_retries if config.retry_on_failure else 0,
            "store_response": config.store_response,
            "is_test": item.account.is_test,
            **_auth(item, config),
        },
    )


def _auth(item: Item, config: WebhookCall) -> dict[str, Any]:
    """Give the credentials as they are sealed: they are opened just before the wire."""
    if config.auth_type == "none":
        return {"auth_type": "none"}
    sealed = (config.auth_config or {}).get(SEALED)
    if not is_sealed(sealed):
        raise UnusableError("secret_not_sealed", "the credentials were not saved through the API")
    place = place_of_secret(item.account_id, item.action.id, "auth_config")
    return {"auth_type": config.auth_type, "auth": sealed, "auth_place": place}


ACTION = ActionType(
    name="webhook_call",
    family="webhook",
    config=WebhookCall,
    perform=perform,
    verbatim=frozenset({"auth_config"}),
    secret=frozenset({"auth_config"}),
    gives={
        "status": "the HTTP status",
        "response": "headers and body, if stored",
        "test_mode": "true where nothing was called",
    },
)
