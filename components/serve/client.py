"""How deploy asks a server: with a key where it has one, and by its own certificate where it is on this machine."""

from __future__ import annotations

import ssl

import httpx

from components.cxr.errors import UserError

__all__ = ["open_client"]


def open_client(
    address: str, *, timeout_s: float, key: str | None = None, certificate: str | None = None
) -> httpx.Client:
    """A client of one server, past any proxy.

    Args:
        address: URL without a path.
        key: API key.
        certificate: PEM file of the certificate that this server has, whatever its name; None trusts the authorities
            that this machine trusts.

    Raises:
        UserError: a file that is not there or holds no certificate.
    """
    verify: ssl.SSLContext | bool = True
    if certificate is not None:
        try:
            verify = ssl.create_default_context(cafile=certificate)
        except OSError as error:  # ssl.SSLError is one
            raise UserError(
                "bad-certificate",
                "the server's certificate cannot be read",
                where=certificate,
                found=getattr(error, "reason", None) or error.strerror,
                expected="a certificate in PEM",
            ) from None
        verify.check_hostname = False  # it is this machine's name that differs, and only that certificate is trusted
        verify.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    headers = {} if key is None else {"x-api-key": key}
    return httpx.Client(base_url=address, headers=headers, verify=verify, timeout=timeout_s, trust_env=False)
