"""The address of a server, and the settings of connections to it."""

from __future__ import annotations

import os
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import Dict, Optional, Tuple, Union

Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Address:
    """A server's address, from its URL. `prefix` is in front of every path, as behind a proxy."""

    url: str
    secure: bool
    host: str
    port: int
    prefix: str

    @staticmethod
    def of(url: str) -> "Address":
        parts = urllib.parse.urlsplit(url if "//" in url else "http://" + url)
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r} is not the address of a server: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the address of a server; it looks like http://127.0.0.1:8080")
        if parts.username is not None or parts.password is not None:
            # The text would be in logs, so it is not repeated here.
            raise ValueError("the address of the server has a user's name in it; give `token` instead")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has a query or a fragment; the address of a server has none")
        secure = parts.scheme == "https"
        return Address(url, secure, parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/"))


def tls_context(
    address: Address, ca: Optional[Path], cert: Union[None, Path, Tuple[Path, Path]], context: Optional[ssl.SSLContext]
) -> Optional[ssl.SSLContext]:
    """The TLS settings: the authorities that are trusted (`ca`), and the client's own certificate (`cert`), with its key in the same file or the second one."""
    if not address.secure:
        if ca is not None or cert is not None or context is not None:
            raise ValueError(f"{address.url!r} is not encrypted, so `ca`, `cert` and `context` do nothing; use https://")
        return None
    if context is not None:
        if ca is not None or cert is not None:
            raise ValueError("`context` is given, so `ca` and `cert` do nothing; put them into the context")
        return context
    made = ssl.create_default_context(cafile=None if ca is None else os.fspath(ca))
    if cert is not None:
        own, key = cert if isinstance(cert, tuple) else (cert, None)
        made.load_cert_chain(os.fspath(own), None if key is None else os.fspath(key))
    return made


def headers(token: Optional[str], tenant: Optional[str]) -> Dict[str, str]:
    """The headers of every request."""
    found = {"accept": "application/json", "user-agent": "tempograph-client"}
    if token is not None:
        found["authorization"] = "Bearer " + token
    if tenant is not None:
        found["tenant"] = tenant
    for name, value in found.items():
        if not value.isascii() or not value.isprintable():
            # The value may be a secret, so it is not repeated here.
            raise ValueError(f"the header `{name}` would have a character that a header cannot have; is there a line break at the end of a token?")
    return found


def deadline(left: float) -> str:
    return str(max(1, min(round(1000 * left), 2**32 - 1)))
