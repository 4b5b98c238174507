"""The provider's public keys, fetched when they are needed and again when they were changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

#: Keys are asked for again after this long, seconds.
_FRESH_S = 3600.0
#: A token under an unknown key makes them be asked for again, but no more often than this, seconds.
_CALM_S = 10.0


class ProviderKeys:
    """The key set behind ``jwks_uri``, with rotation.

    Args:
        fetch: gives the key set as JSON (RFC 7517).
        clock: monotonic seconds.
    """

    def __init__(
        self, fetch: Callable[[], dict[str, Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched = 0.0

    def current(self) -> KeySet:
        """The keys as they are known, fetched where they are not or are an hour old."""
        with self._lock:
            if self._keys is None or self._clock() - self._fetched > _FRESH_S:
                return self._load()
            return self._keys

    def rotated(self) -> KeySet | None:
        """The keys fetched anew; None where that was done just now, so that bad tokens cost nothing."""
        with self._lock:
            if self._keys is not None and self._clock() - self._fetched < _CALM_S:
                return None
            return self._load()

    def _load(self) -> KeySet:
        value = self._fetch()
        usable = [key for key in value.get("keys", ()) if key.get("use", "sig") == "sig" and _is_public(key)]
        try:
            self._keys = KeySet.import_key_set({"keys": usable})
        except (ValueError, KeyError, TypeError) as error:
            raise JoseError("the provider's keys cannot be read") from error
        self._fetched = self._clock()
        return self._keys


def _is_public(key: dict[str, Any]) -> bool:
    """A symmetric key here would let anybody who read it sign."""
    return key.get("kty") in ("RSA", "EC", "OKP") and "d" not in key
