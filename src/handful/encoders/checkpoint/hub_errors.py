"""What huggingface_hub has to say, in our voice: one sentence for an error, and no other noise.

It raises its own errors, those of its HTTP client and those of the disk, and wraps
some in others. The client is ``httpx`` or, since huggingface_hub 2, ``httpx2``: its errors are
told by name, so that either will do.
"""

from __future__ import annotations

import errno
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from handful.errors import InputError
from handful.progress import notice

__all__ = ["explained", "host", "is_network", "megabytes", "not_cached"]


def host() -> str:
    """Return the name of the hub in use: ``huggingface.co``, or that of ``HF_ENDPOINT``."""
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).netloc or constants.ENDPOINT


def megabytes(count: int) -> str:
    """Return a count of bytes for people.

    >>> megabytes(605_247_071), megabytes(2_524_657), megabytes(300), megabytes(0)
    ('605 MB', '2.5 MB', '0.1 MB', '0.0 MB')
    """
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count and max(count / 1e6, 0.1):.1f} MB"


def not_cached(name: str, revision: str = "main") -> str:
    """Return the sentence for a model that is not there while ``HF_HUB_OFFLINE`` is set."""
    from huggingface_hub import constants

    what = name if revision == "main" else f"{name}@{revision}"
    return (
        f"{what} is not complete in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids"
        " to download it: unset HF_HUB_OFFLINE, or give dir:FOLDER or a cached model."
    )


def is_network(error: BaseException) -> bool:
    """Whether a request found no answer, or lost it on the way."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


@contextmanager
def explained(name: str, revision: str) -> Iterator[None]:
    """Turn what a hub, the network or the disk do wrong into an ``InputError``; keep silence.

    Args:
        name: of the repository that is asked for.
        revision: of the repository.
    """
    try:
        with _quiet():
            yield
    except InputError:
        raise
    except Exception as error:
        sentence = _sentence(_beneath(error), name, revision)
        if sentence is None:
            raise
        raise InputError(sentence) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the bars and warnings of huggingface_hub off the terminal.

    Its errors pass, and it may say in our voice that it waits, which can take minutes. Who sets its
    verbosity gets what was asked for.
    """
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    def passes(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("Rate limited"):
            notice(f"{host()}: {record.getMessage()}")
            return False
        return record.levelno >= logging.ERROR or hub_logging.get_verbosity() != logging.WARNING

    handlers = list(logging.getLogger("huggingface_hub").handlers)
    had_bars = not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disable_progress_bars()
        for handler in handlers:
            handler.addFilter(passes)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(passes)
            if had_bars:
                enable_progress_bars()


def _beneath(error: BaseException) -> Any:
    """Return the answer of the hub, or the failure of the network, that led to an error."""
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, OfflineModeIsEnabled

    known = HfHubHTTPError | OfflineModeIsEnabled | FileMetadataError
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, known) or is_network(seen):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def _sentence(error: Any, name: str, revision: str) -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return _answered(error, name, revision)
    if isinstance(error, OfflineModeIsEnabled):
        return not_cached(name, revision)
    if is_network(error):
        return (
            f"{name} is not complete in the cache, and {host()} could not be reached"
            f" ({str(error) or type(error).__name__}): connect to the internet, or give"
            " dir:FOLDER or a cached model."
        )
    if isinstance(error, ValueError | FileMetadataError):
        return (
            f"{host()} does not answer as a Hugging Face hub does when asked for {name}: see"
            f" whether HF_ENDPOINT ({constants.ENDPOINT}) is right, and whether a proxy or a login"
            " page stands between."
        )
    if isinstance(error, OSError):
        return _disk(error, name)
    return None


def _answered(error: Any, name: str, revision: str) -> str:
    """Say what an HTTP status means. ``error`` is a ``HfHubHTTPError``."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status, page = error.response.status_code, f"{constants.ENDPOINT}/{name}"
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is gated: accept its terms at {page}, then run hf auth login (or set"
            " HF_TOKEN) and try again."
        )
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{name} has no revision '{revision}': give a branch, a tag or a commit of"
            f" {page}/commits/main."
        )
    if status == 401 and "invalid credentials" in str(error).lower():
        return (
            f"{host()} refuses your access token when asked for {name}: run hf auth login again,"
            " or unset HF_TOKEN."
        )
    # The hub answers 401, not 404, to whoever is not logged in and asks for what is not there.
    if status == 401 or isinstance(error, RepositoryNotFoundError):
        return (
            f"{host()} has no model {name}, or it is private: check the name, and for a private"
            " model run hf auth login (or set HF_TOKEN)."
        )
    if status == 429:
        return (
            f"{host()} refuses {name} for now, after too many requests from here: try again"
            f" {_when(error.response.headers)}; who is logged in (hf auth login) may ask more"
            " often."
        )
    if status >= 500:
        return (
            f"{host()} has a fault of its own (status {status}) and could not give {name}: try"
            " again in a few minutes."
        )
    said = (error.server_message or "no reason given").strip().partition("\n")[0]
    return (
        f"{host()} refuses {name} with status {status} ({said}): see {page}, and whether"
        f" HF_ENDPOINT ({constants.ENDPOINT}) is right."
    )


def _when(headers: Any) -> str:
    after = str(headers.get("Retry-After") or "").strip()
    # What huggingface.co sends instead: RateLimit: "resolvers";r=0;t=172
    limit = re.search(r"\bt\s*=\s*(\d+)", headers.get("RateLimit") or "")
    seconds = after if after.isdigit() else limit and not after and limit.group(1)
    if seconds:
        return f"in {seconds} seconds"
    return f"after {after}" if after else "in a few minutes"


def _disk(error: OSError, name: str) -> str:
    from huggingface_hub import constants

    cache = constants.HF_HUB_CACHE
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk of {cache} is full, so {name} could not be downloaded: free some space, or"
            " set HF_HOME to a folder with room, and run the same command again."
        )
    if error.errno is not None:
        return (
            f"{name} cannot be written to the cache {cache}"
            f" ({error.strerror or type(error).__name__}): set HF_HOME to a folder that you may"
            " write to."
        )
    # huggingface_hub counts the bytes of small files itself, and has no class for this.
    reason = str(error).strip().partition("\n")[0].partition(" (")[0]
    return f"a file of {name} did not arrive whole ({reason}): run the same command again."
