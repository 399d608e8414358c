"""Common parts of the batch APIs of LiteLLM's providers: address and credentials as LiteLLM has them, and a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.contracts import Message, Request
from enhancer_plugins.network.batch_connection import Connection
from enhancer_plugins.network.hosts import proxy_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import aiohttp

    from enhancer.errors import ProviderError
    from enhancer_plugins.llm.batching.recorder import Recorder, SentRequest

# Headers of a completion that have nothing to do with the account.
_OF_ONE_CALL = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"),
        "user-agent",
    }
)


class Channel:
    """Way to the batch API of one model.

    Args:
        model: LiteLLM's name of the model.
        endpoint: Name under which jobs are recorded.
        recorder: Records requests of the library.
        refusal: Translates an exception of the library.
        session: Returns the session of the provider.
        scrub: Removes secrets from messages.
        scrub_exactly: Removes known secrets from answers.
        error: Returns the exception for a status, a message, a code, headers, and the URL of the API.
    """

    def __init__(
        self,
        model: str,
        endpoint: str,
        recorder: Recorder,
        *,
        refusal: Callable[[Exception, Request], ProviderError],
        session: Callable[[], aiohttp.ClientSession],
        scrub: Callable[[str], str],
        scrub_exactly: Callable[[str], str],
        error: Callable[[int, str, str, dict[str, str], str], ProviderError],
    ) -> None:
        self.model = model
        self.endpoint = endpoint
        self.scrub_exactly = scrub_exactly
        self._recorder = recorder
        self._refusal = refusal
        self._session = session
        self.scrub = scrub
        self._error = error
        self._connection: Connection | None = None
        self._direct: SentRequest | None = None

    @property
    def direct_url(self) -> str:
        """URL of direct calls."""
        return self._probe().url

    @property
    def direct_body(self) -> Any:
        """Body of some direct call."""
        return self._probe().body

    def connect(self, base: Callable[[str], str], *, drop: Sequence[str] = ()) -> Connection:
        """Return the connection to the API.

        Args:
            base: Returns the base URL, given the URL of a direct call.
            drop: Headers of direct calls that are left out.
        """
        if self._connection is None:
            sent = self._probe()
            where = base(sent.url)
            headers = {n: v for n, v in sent.headers.items() if n not in _OF_ONE_CALL and n not in drop}
            self._connection = Connection(
                base=where,
                headers=headers,
                session=self._session,
                error=lambda status, message, code, received: self._error(status, message, code, received, where),
                scrub=self.scrub,
                proxy=proxy_for(where),
            )
        return self._connection

    def body(self, request: Request) -> tuple[bytes, Mapping[str, str]]:
        """Return the JSON of a direct call on one line, and its headers."""
        try:
            return self._recorder.body(request)
        except Exception as error:  # noqa: BLE001 - the library passes on the errors of its providers
            raise self._refusal(error, request) from None

    def _probe(self) -> SentRequest:
        if self._direct is None:
            request = Request(messages=(Message("user", "enhancer"),), model=self.model, max_tokens=1)
            try:
                self._direct = self._recorder.record(request)
            except Exception as error:  # noqa: BLE001 - the library passes on the errors of its providers
                raise self._refusal(error, request) from None
        return self._direct
