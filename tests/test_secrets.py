"""Secrets at rest: sealed for their place, opened by any key we have, never shown."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from runtime.secret_keys import parse_keys
from runtime.secrets import Vault, VaultError, is_sealed, vault_of
from runtime.settings import Settings, SettingsError, load_settings

OLD, NEW = {"old": bytes(32)}, {"new": bytes(range(32))}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text("ab:", min_size=1))
def test_what_is_sealed_opens_in_its_place_and_nowhere_else(secret: str, place: str) -> None:
    vault = Vault(NEW)
    sealed = vault.seal(secret, place)
    assert is_sealed(sealed)
    assert vault.open(sealed, place) == secret
    with pytest.raises(VaultError) as caught:
        vault.open(sealed, place + "x")
    assert caught.value.code == "secret_damaged"


def test_the_same_secret_never_looks_the_same_twice() -> None:
    assert Vault(NEW).seal("s", "p") != Vault(NEW).seal("s", "p")


def test_after_a_rotation_old_secrets_open_and_are_to_be_sealed_anew() -> None:
    sealed = Vault(OLD).seal("s", "p")
    rotated = Vault({**NEW, **OLD})
    assert rotated.open(sealed, "p") == "s"
    assert not rotated.is_current(sealed)
    assert rotated.is_current(rotated.seal("s", "p"))
    with pytest.raises(VaultError) as caught:
        Vault(NEW).open(sealed, "p")
    assert caught.value.code == "secret_key_unknown"


@pytest.mark.parametrize(
    "damaged", ["", "x", "cbs1.new", "cbs1.new.", "cbs1.new.AAAA", "cbs1.n.A.B"]
)
def test_what_is_no_sealed_secret_is_refused_by_name(damaged: str) -> None:
    with pytest.raises(VaultError) as caught:
        Vault(NEW).open(damaged, "p")
    assert caught.value.code in {"secret_damaged", "secret_key_unknown"}


def test_without_a_key_nothing_is_sealed() -> None:
    with pytest.raises(VaultError) as caught:
        Vault({}).seal("s", "p")
    assert caught.value.code == "secret_key_missing"


def test_the_embedded_server_has_a_key_of_its_own_that_only_its_owner_reads(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, database_url=None)
    sealed = vault_of(settings).seal("s", "p")
    assert vault_of(settings).open(sealed, "p") == "s"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


def test_another_server_has_no_key_but_the_one_of_the_environment(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, database_url="postgresql://db")
    with pytest.raises(VaultError):
        vault_of(settings).seal("s", "p")
    keys = SecretStr("a:" + base64.b64encode(os.urandom(32)).decode())
    given_keys = settings.model_copy(update={"secret_keys": keys})
    assert vault_of(given_keys).open(vault_of(given_keys).seal("s", "p"), "p") == "s"


@pytest.mark.parametrize(
    "text", ["", "a", "a:short", "a:" + "A" * 43 + ",a:" + "A" * 43, ":" + "A" * 43]
)
def test_keys_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_keys(text)


def test_a_wrong_key_is_not_repeated_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBOARD_SECRET_KEYS", "a:hunter2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "CALLBOARD_SECRET_KEYS" in str(caught.value)
    assert "hunter2" not in str(caught.value)
