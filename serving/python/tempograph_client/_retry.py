"""When a request is sent again."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import Callable, Optional

from ._types import Refused, Unreachable

# What is worth another try: too many requests; a proxy without a server; a server that starts, stops or restarts.
_AGAIN = (429, 502, 503)
# Their names differ between versions of Python.
TIMEOUTS = (TimeoutError, socket.timeout, asyncio.TimeoutError)
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0


class NotSent(Exception):
    """The connection could not be opened, so that the server has not seen the request."""


class Attempts:
    """The attempts of one request, until its deadline.

    A request is sent again after a failure if it is `safe` to send twice, or if the server has certainly not acted on it: it was not reached, or it
    refused the request and named the time after which to try again.
    """

    def __init__(self, url: str, safe: bool, within: float, again: bool = True, now: Callable[[], float] = time.monotonic) -> None:
        self._url, self._safe, self._again, self._now = url, safe, again, now
        self._until, self._wait = now() + within, _FIRST_WAIT

    def left(self) -> float:
        """The seconds until the deadline."""
        return self._until - self._now()

    def progress(self, within: float) -> None:
        """Starts anew: something has been achieved."""
        self._until, self._wait = self._now() + within, _FIRST_WAIT

    def wait_after(self, error: Exception) -> float:
        """The seconds to wait after `error` before the next attempt.

        Raises the error, as the caller of the client should see it, if there is none.
        """
        if isinstance(error, Refused):
            if self._again and error.status in _AGAIN and (self._safe or error.retry_after is not None):
                wait = self._next(error.retry_after)
                if wait is not None:
                    return wait
            raise error
        late = isinstance(error, TIMEOUTS)
        said = "no answer came in time" if late else str(error) or type(error).__name__
        unreachable = Unreachable(f"{self._url}: {said}")
        if self._again and (self._safe or isinstance(error, NotSent)) and not late:
            wait = self._next(None)
            if wait is not None:
                return wait
        raise unreachable from error

    def _next(self, asked: Optional[float]) -> Optional[float]:
        # Clients that fail together should not come back together.
        wait = self._wait * random.uniform(0.5, 1.0) if asked is None else asked
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        return wait if wait < self.left() else None
