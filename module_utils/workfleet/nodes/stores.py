"""What nodes need beside their host: the broker and the result store, tried from where the nodes will be."""

from __future__ import annotations

from .. import redis_url, resp
from ..errors import WorkfleetError

SECONDS = 3.0


def require_reached(broker_url: str, result_url: str) -> None:
    """Connect to each that is a Redis, log in and ping; raise :class:`WorkfleetError` for the first where that cannot be done from here."""
    for name, variable, url in (("broker", "app_broker_url", broker_url), ("result store", "app_result_url", result_url)):
        if redis_url.is_redis(url):
            try:
                with resp.connect(url, timeout=SECONDS) as client:
                    client.call("PING")
            except WorkfleetError as error:
                raise WorkfleetError(f"this host does not reach the {name} ({variable}): {error}") from error
