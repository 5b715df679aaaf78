"""Normal forms of e-mail addresses and phone numbers."""

from contextlib import suppress

import pytest
from email_validator import EmailNotValidError
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.provisional import domains

from actors.contact_addresses import _whole_email, check_phone, normalize_email, normalize_phone
from actors.rendered import UnusableError

ODD_TEXT = st.text(max_size=60) | st.text("0123456789+-() ext;=.@ßİſ\x00\ud800", max_size=40)


@pytest.mark.parametrize(
    ("given_", "normal"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("p0@x.test", "p0@x.test"),
        ("ADA+Tag@example.com", "ada+tag@example.com"),
        ("jörg@BÜCHER.example.com", "jörg@bücher.example.com"),
        ("x@xn--bcher-kva.com", "x@bücher.com"),
        ("re\u0301mi@example.com", "r\u00e9mi@example.com"),
    ],
)
def test_an_email_is_compared_in_lower_case_and_unicode_normal_form(
    given_: str, normal: str
) -> None:
    assert normalize_email(given_) == normal


@pytest.mark.parametrize("text", ["ada", "a@b@example.com", "a b@example.com", "<a@example.com>",
                                  "a@example.com\nBcc: b@example.com", "a@localhost"])  # fmt: skip
def test_what_is_no_email_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(UnusableError) as caught:
        normalize_email(text)
    assert (caught.value.code, caught.value.message) == (
        "email_unusable",
        "email is no e-mail address",
    )


LOCAL = st.text('aZ09._+-é "@', max_size=12)


@given(local=LOCAL, domain=domains(max_length=60) | st.sampled_from(["X.test", "localhost", "-"]))
def test_a_domain_that_is_known_already_says_the_same(local: str, domain: str) -> None:
    def whole(text: str) -> str | None:
        with suppress(EmailNotValidError):
            return _whole_email(text)
        return None

    for _ in range(2):
        with suppress(UnusableError):
            assert normalize_email(f"{local}@{domain}") == whole(f"{local}@{domain}")
            continue
        assert whole(f"{local}@{domain}") is None


@pytest.mark.parametrize(
    ("text", "country", "normal"),
    [
        ("(202) 555-0123", "US", "+12025550123"),
        ("+1 202 555 0123", "DE", "+12025550123"),
        ("0171 1234567", "DE", "+491711234567"),
        ("0049 171 1234567", "DE", "+491711234567"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("202-555-0123 ext. 5", "US", "+12025550123"),
        ("٢٠٢٥٥٥٠١٢٣", "US", "+12025550123"),
    ],
)
def test_a_phone_number_becomes_e164_with_the_accounts_country_as_default(
    text: str, country: str, normal: str
) -> None:
    assert normalize_phone(text, country) == normal
    check_phone(text)


@pytest.mark.parametrize("text", ["call me", "1234567890", "555-0123", "+999 123456", "0" * 250])
def test_what_is_no_phone_number_is_refused(text: str) -> None:
    with pytest.raises(UnusableError, match="phone is no phone number"):
        normalize_phone(text, "US")


@pytest.mark.parametrize("text", ["12", "call me", "+999 123456", "+1 1234567890", "0" * 250, ""])
def test_what_is_a_phone_number_in_no_country_is_refused_without_one(text: str) -> None:
    with pytest.raises(UnusableError, match="phone is no phone number"):
        check_phone(text)


@given(local=st.text("abcXYZ0189.+-_ßéİ", min_size=1, max_size=20), domain=domains())
def test_normalising_a_normal_email_gives_the_same(local: str, domain: str) -> None:
    try:
        normal = normalize_email(f"{local}@{domain}")
    except UnusableError:
        assume(False)
    assert normalize_email(normal) == normal


@given(
    number=st.integers(2_000_000_000, 9_999_999_999), country=st.sampled_from(["US", "DE", "AU"])
)
def test_a_normal_phone_number_is_the_same_in_every_country(number: int, country: str) -> None:
    try:
        normal = normalize_phone(f"+1{number}", country)
    except UnusableError:
        assume(False)
    assert normalize_phone(normal, "FR") == normal == f"+1{number}"


@given(text=ODD_TEXT)
def test_any_text_is_an_address_or_refused_and_nothing_else(text: str) -> None:
    for normalize in (normalize_email, lambda t: normalize_phone(t, "US")):
        with suppress(UnusableError):
            assert normalize(text)
