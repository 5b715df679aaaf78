"""Contacts' e-mail addresses and phone numbers, brought to the form in which they are compared.

Contacts keep an address as it was given (`email`, `phone`) and beside it the normal form
(`email_normalized`, `phone_normalized`), by which duplicates are found and things are sent.
Normalising a normal form gives the same again.
"""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from actors.rendered import UnusableError

# The longest that the phone parser takes.
LONGEST_ADDRESS = 250

# Such a local part is in its normal form but for its case, and no domain makes it too long.
_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:\.[A-Za-z0-9_+-]{1,15}){0,2}")
_PLAIN_LENGTH = 200

# In the smallest numbering plans, such as that of Niue.
SHORTEST_PHONE = 4


def normalize_email(text: str) -> str:
    """Bring an e-mail address to Unicode normal form and lower case; no look-up is made.

    Addresses under .test are taken: rehearsals and tests have no others that are safe.
    UnusableError: email_unusable.
    """
    local, _, domain = text.partition("@")
    try:
        if _PLAIN_LOCAL.fullmatch(local) and len(text) <= _PLAIN_LENGTH:
            # Most addresses share few domains, and nine tenths of the work is the domain's.
            return local.lower() + _domain_of(domain)
        return _whole_email(text)
    except EmailNotValidError:
        # Its own message may quote the address.
        raise UnusableError("email_unusable", "email is no e-mail address") from None


def _whole_email(text: str) -> str:
    valid = validate_email(text, check_deliverability=False, test_environment=True)
    return valid.normalized.lower()


@lru_cache(maxsize=10_000)
def _domain_of(domain: str) -> str:
    """Give the normal form of a domain, with the @ before it; EmailNotValidError for none."""
    return _whole_email(f"a@{domain}").removeprefix("a")


def check_phone(text: str) -> None:
    """Refuse what is a phone number in no country at all; UnusableError: phone_unusable.

    An international number is checked as `normalize_phone` does it; of one without country code
    that it has digits enough: what they mean, only its country can say.
    """
    try:
        usable = phonenumbers.is_valid_number(phonenumbers.parse(text))
    except phonenumbers.NumberParseException:
        usable = _is_national(text)
    if not usable:
        message = "phone is no phone number, neither international nor of any country"
        raise UnusableError("phone_unusable", message)


def _is_national(text: str) -> bool:
    try:
        # A country decides nothing about how many digits were written.
        number = phonenumbers.parse(text, "US")
    except phonenumbers.NumberParseException:
        return False
    return len(phonenumbers.national_significant_number(number)) >= SHORTEST_PHONE


def normalize_phone(text: str, country: str) -> str:
    """Bring a phone number to E.164, such as +14155550100; an extension is dropped.

    Without a country code it is a number of `country` (ISO 3166). UnusableError: phone_unusable,
    also for numbers that no network can have given out (1234567890): as placeholders they would
    make duplicates of strangers.
    """
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_valid_number(number):
        raise UnusableError(
            "phone_unusable", f"phone is no phone number, neither international nor of {country}"
        )
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
