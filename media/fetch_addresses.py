"""Which addresses may be connected to: public ones only, and the very address that was checked."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import httpcore

from schemas.states import Rejection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def public_addresses(host: str, port: int, resolve: Callable[..., Any] = socket.getaddrinfo) -> list[str]:
    """The addresses of the host, all of which must be public.

    Raises:
        Rejection: `forbidden_address` for private, loopback, link-local and other special ranges; `unreachable`.
    """
    try:
        infos = resolve(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Rejection("unreachable", f"{host} has no address: {error}") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    for address in addresses:
        if not is_public(address):
            raise Rejection(
                "forbidden_address",
                f"{host} is {address}, which is not a public address; fetch.allow_private_addresses permits it",
            )
    return addresses


def is_public(address: str) -> bool:
    """Whether an address, and whatever IPv4 address it stands for, is on the public internet."""
    ip: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip.sixtofour or ip in _NAT64:  # tunnelled or translated to an IPv4 address, which counts as well
            inner = ip.sixtofour or ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
            return ip.is_global and is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class PublicBackend(httpcore.SyncBackend):
    """Connects to public addresses only, and to the very address it checked: a second DNS answer changes nothing."""

    def __init__(self, resolve: Callable[..., Any] = socket.getaddrinfo):
        super().__init__()
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        *others, last = public_addresses(host, port, self._resolve)
        for address in others:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):  # e.g. IPv6 on a machine that has no route for it
                continue
        return super().connect_tcp(last, port, timeout, local_address, socket_options)
