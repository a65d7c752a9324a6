"""A canary task through each queue and back: what is asked of an engine, and what it answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Request:
    """What to probe; the URLs are secret. Without ``task`` it is the engine's own canary."""

    broker_url: str
    engine: str = "celery"
    result_url: str = ""
    queues: Sequence[str] = ()
    timeout: float = 30.0
    broker_options: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def call(self, canary: str) -> tuple[str, Sequence[Any]]:
        """The task to send and its arguments; ``canary`` returns what it is given, a task of the app's own is called without."""
        task = self.task or canary
        if self.args is not None:
            return task, self.args
        return task, ["workfleet"] if task == canary else []


@dataclass(frozen=True)
class Proof:
    """What became of a queue's canary. ``ok`` is ``None`` where it can neither be proved nor denied.

    One that was not ``begun`` in time tells that the workers are busy, or that there is none; ``None`` is what nobody knows.
    """

    queue: str
    ok: bool | None
    state: str
    seconds: float | None = None
    reason: str | None = None
    begun: bool | None = True


def not_proved(queues: Sequence[str], reason: str) -> list[Proof]:
    """The same ignorance of all queues."""
    return [Proof(queue, None, "not proved", None, reason, begun=None) for queue in queues]


def result(proofs: Sequence[Proof]) -> list[dict[str, Any]]:
    """Proofs as JSON-ready values."""
    return [asdict(proof) for proof in proofs]


def parse(values: Mapping[str, Any]) -> Request:
    """Read a payload; raises on what cannot be probed."""
    request = Request(**{name: value for name, value in values.items() if value is not None})
    if not request.queues or not all(isinstance(queue, str) and queue for queue in request.queues):
        raise WorkfleetError("queues: name at least one queue to probe")
    if request.timeout <= 0:
        raise WorkfleetError(f"timeout = {request.timeout:g}: must be above 0 seconds")
    return request
