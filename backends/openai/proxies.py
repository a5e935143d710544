"""The proxy that the environment names for a server; every setting is read here, so that each fault has one message.

Loopback addresses have none. Variables as curl reads them: ``https_proxy`` or ``http_proxy`` by the scheme of the
address, else ``all_proxy``; lower case first; ``no_proxy`` lists hosts, domains and networks without one.
"""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from treeagent.errors import ConfigError

SYSTEM = "the system's proxy settings"


@dataclass(frozen=True, slots=True)
class ServerProxy:
    """A proxy and where it is set."""

    url: str
    source: str
    """Name of the environment variable, or :data:`SYSTEM`."""

    @property
    def shown(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def proxy_for(url: str) -> ServerProxy | None:
    """The proxy for an address; None without one. Raises ConfigError naming the variable and the cure."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if _is_loopback(host):
        return None
    environment = {name: value.strip() for name, value in os.environ.items() if value.strip()}
    found = _from_environment(parts.scheme, environment)
    if found is None:
        found = _from_system(parts.scheme, host)
    if found is None or _has_none(host, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return None
    source, address = found
    return ServerProxy(_checked(address, source, host), source)


def _from_environment(scheme: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    names = [f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in environment:
        names.remove(names[1])  # a CGI script: the client could have set HTTP_PROXY by a header
    return next(((name, environment[name]) for name in names if name in environment), None)


def _from_system(scheme: str, host: str) -> tuple[str, str] | None:
    """Of the settings of macOS and Windows; other systems have the environment only."""
    reader = getattr(urllib.request, "getproxies_macosx_sysconf", None) or getattr(
        urllib.request, "getproxies_registry", None
    )
    address = reader().get(scheme) if reader else None
    if not address or urllib.request.proxy_bypass(host):
        return None
    return SYSTEM, address


def _checked(address: str, source: str, host: str) -> str:
    """The address of a proxy with its scheme. Raises ConfigError."""
    cure = f"; correct or unset it, or add {host} to no_proxy"
    whole = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(whole)
        named, _ = parts.hostname, parts.port
    except ValueError:
        named = None
    if not named or not whole.isascii() or not whole.isprintable() or " " in whole:
        raise ConfigError(f"{source} is not the address of a proxy, such as http://127.0.0.1:7890{cure}")
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https", "socks5", "socks5h"):
        advice = "socks5:// or http://" if scheme.startswith("socks") else "http://, https:// or socks5://"
        raise ConfigError(f"{source} names a proxy with {scheme}://, which is not known; expected {advice}{cure}")
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(
            f"{source} names a proxy with {scheme}://, which needs the package socksio (pip install socksio), or unset "
            f"{source}, or add {host} to no_proxy"
        )
    return whole


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _has_none(host: str, listed: str) -> bool:
    """Whether a list of hosts, domains and networks names the host; an entry that is none of them names nothing."""
    address = _address(host)
    for entry in listed.replace(",", " ").lower().split():
        if entry == "*":
            return True
        name = entry
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if address is not None:
            try:
                if address in ipaddress.ip_network(name, strict=False):
                    return True
            except ValueError:
                continue
            continue
        domain = name.removeprefix("*").strip(".")
        if domain and (host == domain or host.endswith(f".{domain}")):
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
