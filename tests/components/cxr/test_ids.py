from __future__ import annotations

import hashlib
import hmac

import pytest

from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_fraction, hash_id, load_id_key
from components.preprocess.splits import split_by_hash

KEY = IdKey(b"a key of this test only")


def test_ids_are_hmac_sha256_of_kind_and_id() -> None:
    assert KEY.secret is not None
    assert (
        hash_id("study", "50414267", KEY) == hmac.new(KEY.secret, b"study\x0050414267", hashlib.sha256).hexdigest()[:20]
    )


def test_kind_id_and_key_all_count() -> None:
    other = IdKey(b"another key of this test")
    ids = [
        hash_id("study", "1", KEY),
        hash_id("patient", "1", KEY),
        hash_id("study", "2", KEY),
        hash_id("study", "1", other),
    ]
    ids.append(hash_id("study", "1", IdKey(None)))
    assert len(set(ids)) == 5
    assert all(len(found) == 20 for found in ids)
    assert len({KEY.fingerprint, other.fingerprint, IdKey(None).fingerprint}) == 3


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_ID_KEY", "a key of this test only")
    assert hash_id("study", "1") == hash_id("study", "1", KEY)
    assert load_id_key().deidentified
    monkeypatch.setenv("CXRFLOW_ID_KEY", "")
    assert not load_id_key().deidentified


def test_a_key_that_could_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_ID_KEY", "secret")
    with pytest.raises(UserError, match="CXRFLOW_ID_KEY; found 6 bytes, expected at least 16") as caught:
        load_id_key()
    assert "secret" not in str(caught.value)


def test_the_key_is_never_shown() -> None:
    assert "only" not in repr(KEY)
    assert "only" not in KEY.fingerprint


def test_split_shares_are_about_the_fractions() -> None:
    splits = [split_by_hash(str(i), fractions={"train": 0.7, "test": 0.3}, key=KEY) for i in range(2000)]
    assert 0.66 < splits.count("train") / 2000 < 0.74
    assert splits.count("validate") == 0
    assert 0.0 <= hash_fraction("split", "1", KEY) < 1.0
