"""The one tree of errors.

    PenstockError
    ├── ConfigError        a file, an environment variable or an argument cannot be used
    ├── InvalidRequest     the client's request is wrong; retrying it unchanged cannot help
    ├── Refused            the request is fine, Penstock will not do it now
    │   ├── RateLimited
    │   │   └── TargetBusy another target can be asked at once
    │   ├── BudgetExceeded
    │   ├── DeadlineExceeded
    │   └── NotCached      `only-if-cached` was asked for and there is no usable entry
    ├── ProviderError      an upstream failed or answered something unusable
    ├── StoreError         a store could not read or write; for a cache this is a miss
    ├── WorkerError        another worker of this gateway ended, or could not answer
    └── DeliveryFailed     a message to people or programs did not arrive

Fields are structured so that nobody parses messages; `penstock.server.errors` is the only map from here to HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.core.quota import Quota

SHUTTING_DOWN = "shutting_down"
"""Code of what ends because Penstock stops; also the message of such cancellations, for the record."""


class PenstockError(Exception):
    """Base of all errors Penstock raises on purpose.

    Attributes:
        message: What was wrong, where, and what to do, for a person.
        code: Stable machine-readable name, e.g. ``model_not_found``.
        param: The request field or setting at fault, if there is one.
    """

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class ConfigError(PenstockError):
    """A configuration cannot be used.

    Attributes:
        file: Path of the file at fault, if it was one.
        line: 1-based line in that file.
        key: Dotted path of the setting, e.g. ``models[0].targets``.
        expected: What would have been accepted.
        problems: When there is more than one, each of them.
    """

    code = "invalid_config"

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        expected: str | None = None,
        problems: Sequence[ConfigError] = (),
    ) -> None:
        super().__init__(message, param=key)
        self.file = file
        self.line = line
        self.key = key
        self.expected = expected
        self.problems = tuple(problems)

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place = f"{place}:{self.line}" if place else f"line {self.line}"
        parts = [part for part in (place, self.key, self.message) if part]
        text = ": ".join(parts)
        return f"{text} (expected {self.expected})" if self.expected else text


class InvalidRequest(PenstockError):
    """The client's request is wrong.

    Attributes:
        status_code: HTTP status that fits: 400, 401, 404, 405, 408, 409, 413 or 415.
    """

    code = "invalid_request"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, status_code: int = 400
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.status_code = status_code


class Refused(PenstockError):
    """Penstock will not do this now.

    Attributes:
        retry_after: Seconds after which a retry makes sense, if that is known.
    """

    code = "refused"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class RateLimited(Refused):
    """Too many requests or tokens for now.

    Attributes:
        quota: What is left of the limit that was reached, if whoever asked has one.
    """

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float | None = None, quota: Quota | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.quota = quota


class TargetBusy(RateLimited):
    """The request would have to wait for this target and need not for another one."""


class BudgetExceeded(Refused):
    """The money or token budget is used up."""

    code = "insufficient_quota"


class DeadlineExceeded(Refused):
    """The total time allowed for the request is over."""

    code = "upstream_timeout"


NOTHING_CACHED = "There is no cached answer to this request, and only-if-cached forbids asking for one."


class NotCached(Refused):
    """``Cache-Control: only-if-cached`` and no entry that may be served (RFC 9111 section 5.2.1.7)."""

    code = "not_cached"


class ProviderError(PenstockError):
    """An upstream failed.

    Attributes:
        status_code: The upstream's HTTP status, or None when there was none.
        code: ``upstream_error``, ``upstream_auth``, ``upstream_timeout``, ``upstream_connect``, ``upstream_dns``,
            ``upstream_tls``, ``upstream_invalid``, ``upstream_incomplete``, ``rate_limit_exceeded``, or for an
            upstream's 400, 404, 413 and 422 the upstream's own code.
        retry_after: Seconds the upstream asked to wait, if it did.
        retryable: Whether the same request may succeed on the same target.
        elsewhere: Whether the same request may succeed on another target.
        provider: Name of the provider in the configuration.
        stale: A kept connection turned out to be closed when it was used again. Servers close idle ones at any time,
            so this says nothing of the target, and the request has very likely not been read.
        quota: What the upstream says is left of its limits, if that was asked for.
    """

    code = "upstream_error"
    quota: Quota | None = None
    stale = False

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        elsewhere: bool = True,
        provider: str = "",
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.status_code = status_code
        self.retry_after = retry_after
        self.retryable = retryable
        self.elsewhere = elsewhere
        self.provider = provider


class StoreError(PenstockError):
    """A store could not read or write.

    Attributes:
        code: ``store_error``, ``store_corrupt``, or ``ledger_unavailable`` for a call that was not sent because it
            could not be written down.
        retry_after: Seconds after which a retry makes sense, if that is known.
    """

    code = "store_error"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class WorkerError(PenstockError):
    """Another worker of this gateway ended, or could not answer.

    Attributes:
        code: ``worker_gone`` for one that is not there or ended, ``worker_timeout``, or the code of what went wrong
            there.
    """

    code = "worker_failed"


class DeliveryFailed(PenstockError):
    """A message did not arrive.

    Attributes:
        permanent: Trying again cannot help.
    """

    code = "delivery_failed"

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
