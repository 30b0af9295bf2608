"""What may be a URL in a recipe, how messages show it, and what it must not hold."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
_WITH_USERS = ("http", "https", "ftp", "sftp", "ssh")
_ADDRESS = re.compile(r"//[^/?#]*\[[0-9A-Fa-f:.]*")  # of IPv6, in brackets
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Names of query parameters that sign a URL or open it, as words with _ between them.
_SECRET = re.compile(
    r"(?:^|_)(?:sig|amz|o?auth|authorization|pwd|[a-z]*(?:signature|token|secret|passw(?:or)?d"
    r"|passphrase|credentials?|(?:api|access|secret|auth)_?key(?:_?id)?))(?:_|$)"
)


def is_url(name: str) -> bool:
    """Whether a source is a URL and no path."""
    return bool(_URL.match(name)) or ("::" in name and "://" in name)


def is_chained(url: str) -> bool:
    """Whether a URL is several, as ``simplecache::https://…``: fsspec takes ``::`` for that."""
    return "::" in _ADDRESS.sub("", url)


def shown_url(url: str) -> str:
    """A URL as messages and records have it: without user, password, query and fragment.

    Raises:
        ValueError: it is chained, or no URL that can be read.
    """
    if is_chained(url):
        raise ValueError("several URLs in one")
    parts = urlsplit(url)
    host = parts.netloc
    user, at, rest = host.rpartition("@")
    # abfs://container@account names no user
    if at and (":" in user or parts.scheme in _WITH_USERS):
        host = rest
    return f"{parts.scheme}://{host}{parts.path}"


def secret_in(url: str) -> str | None:
    """What a URL holds that opens something, without the value, or None."""
    try:
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
    except ValueError:
        return None  # no URL that can be read; fetching it says so
    if at and (":" in user or parts.scheme in _WITH_USERS[:2]):
        return "a user or password"
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    signed = next((name for name in names if _SECRET.search(_words(name))), None)
    return None if signed is None else f"a credential ({signed})"


def _words(name: str) -> str:
    """``X-Amz-Date`` and ``xAmzDate`` as ``x_amz_date``: ``author`` is no ``auth``."""
    return "_".join(_WORD.findall(name)).lower()
