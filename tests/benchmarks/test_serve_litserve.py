"""The benchmark beside LitServe, which the project does not install, says what it needs."""

from __future__ import annotations

import pytest

from benchmarks import serve_litserve
from components.cxr.errors import UserError


def test_without_litserve_it_says_so(monkeypatch) -> None:
    monkeypatch.setattr(serve_litserve, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="litserve is not installed"):
        serve_litserve.main()
