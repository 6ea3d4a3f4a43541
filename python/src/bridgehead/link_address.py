"""Where a worker dials: `BRIDGEHEAD_LINK_URL`, a list of `tcp://host:port` and `unix:/path`."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORT = 8082


class LinkUrlError(ValueError):
    """A link URL that nobody can dial."""


@dataclass(frozen=True, slots=True)
class TcpUrl:
    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixUrl:
    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


LinkUrl = TcpUrl | UnixUrl


def parse_link_url(text: str) -> LinkUrl:
    """`tcp://host:port` (port 8082 if missing), `host:port` or `unix:/path`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise LinkUrlError(f"{text!r} names no socket")
        return UnixUrl(path)
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        port = parts.port
    except ValueError as error:
        raise LinkUrlError(f"{text!r} is no address") from error
    if parts.scheme != "tcp" or not parts.hostname or parts.path not in ("", "/") or parts.username is not None:
        raise LinkUrlError(f"{text!r} is neither tcp://host:port nor unix:/path")
    return TcpUrl(parts.hostname, DEFAULT_PORT if port is None else port)


async def resolve(url: LinkUrl) -> list[LinkUrl]:
    """Every address that a URL's name has now. Raises `OSError` when the name cannot be resolved."""
    if isinstance(url, UnixUrl):
        return [url]
    found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(TcpUrl(str(address[0]), url.port) for _, _, _, _, address in found))


async def connect(address: LinkUrl) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to one address."""
    if isinstance(address, UnixUrl):
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)
