"""The fake Twilio: it speaks as Twilio's own OpenAPI document says, to Twilio's own client."""

import aiohttp
import pytest

from tests.counterparts.twilio.document import ROOT, complaints_of_answer
from tests.counterparts.twilio.script import Callbacks
from tests.counterparts.twilio.server import ACCOUNT_SID, AUTH_TOKEN, twilio

TO, FROM = "+14155550100", "+14155550199"
AUTHORISED = {"Authorization": aiohttp.encode_basic_auth(ACCOUNT_SID, AUTH_TOKEN)}
PATH = ROOT.replace("{AccountSid}", ACCOUNT_SID)


async def post(url: str, form: dict[str, str], **headers: str) -> tuple[int, dict[str, object]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=form, headers=headers or AUTHORISED) as response,
    ):
        return response.status, await response.json()


async def test_its_answers_are_as_the_document_has_them() -> None:
    async with twilio() as fake:
        fake.callbacks = Callbacks(are_sent=False)
        status, message = await post(
            f"{fake.url}{PATH}/Messages.json", {"To": TO, "From": FROM, "Body": "Hi"}
        )
        assert status == 201
        assert complaints_of_answer(f"{ROOT}/Messages.json", "post", 201, message) == []
        form = {"To": TO, "From": FROM, "Url": "https://x.test/"}
        status, call = await post(f"{fake.url}{PATH}/Calls.json", form)
        assert status == 201
        assert complaints_of_answer(f"{ROOT}/Calls.json", "post", 201, call) == []


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"From": FROM, "Body": "no recipient"}, 20001),
        ({"To": "Ada", "From": FROM, "Body": "no number"}, 21211),
        ({"To": TO, "From": FROM, "Body": "x", "ValidityPeriod": "long"}, 20001),
        ({"To": TO, "From": FROM, "Body": "x", "StatusCallback": "not a url"}, 20001),
        ({"To": TO, "From": FROM, "Body": "x", "MessagingServiceSid": "MG1"}, 20001),
        ({"To": TO, "Body": "no sender"}, 21603),
        ({"To": TO, "From": FROM}, 21602),
        ({"To": TO, "From": FROM, "Body": "x" * 1601}, 21617),
    ],
)
async def test_it_refuses_what_twilio_refuses(form: dict[str, str], code: int) -> None:
    async with twilio() as fake:
        status, problem = await post(f"{fake.url}{PATH}/Messages.json", form)
        assert (status, problem["code"], fake.messages) == (400, code, [])


async def test_it_knows_its_account() -> None:
    async with twilio() as fake:
        status, problem = await post(
            f"{fake.url}{PATH}/Messages.json", {"To": TO}, Authorization="Basic eA=="
        )
        assert (status, problem["code"]) == (401, 20003)
