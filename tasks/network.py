"""How this machine reaches the network, as its environment says."""

from __future__ import annotations

import os
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PASSED_ON = (
    *("HOME", "TMPDIR", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("NPM_CONFIG_REGISTRY", "npm_config_registry", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX"),
    *("GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE"),
)
"""What the package managers of a disk may see of our environment. Everything else of the host's would confuse them."""


def proxy_of(address: str) -> str:
    """The proxy through which an address is reached; empty if there is none."""
    parts = urlsplit(address)
    if proxy_bypass(parts.hostname or ""):
        return ""
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all") or ""


def passed_on() -> dict[str, str]:
    """The part of our environment that package managers get."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
