"""Run ``celery flower``, tell that it is ready when its /healthcheck answers, and end it by its event loop when a signal comes.

    python workfleet_flower.py [--check] -- -A APP flower [--OPTION=VALUE ...]

Python 3.9 or newer, Flower 2.0 or newer, and the standard library.
"""

from __future__ import annotations

import os
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import workfleet_tell

POLL_SECONDS = 0.2
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, not by us


def address(words: list[str]) -> str:
    """Return where a Flower with these words answers; of a word given twice the last one counts."""
    given = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    host = EVERYWHERE.get(given.get("address", ""), given.get("address", ""))
    prefix = given.get("url_prefix", "").strip("/")
    scheme = "https" if given.get("certfile") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{given.get('port', '5555')}/{f'{prefix}/' if prefix else ''}healthcheck"


def answers(url: str) -> bool:
    """Whether Flower answers; who signed its certificate is no question of health. No proxy stands between."""
    unverified = ssl._create_unverified_context()  # noqa: S323 - we ask ourselves
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified))
    try:
        with opener.open(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def watch(url: str) -> None:
    """Ask until there is an answer, then tell."""
    while not answers(url):
        time.sleep(POLL_SECONDS)
    workfleet_tell.ready(url.rpartition("/")[0], doing="serving")


def main(argv: list[str]) -> None:
    """Run ``celery`` with the words behind ``--``, or import what it would need."""
    words = argv[argv.index("--") + 1:]
    try:
        from flower.app import Flower
    except ModuleNotFoundError as error:
        sys.exit(f"workfleet_flower: there is no module {error.name} in the app's virtualenv: the dashboard needs flower "
                 "in app_requirements")
    if "--check" in argv[:1]:
        from celery.app.utils import find_app

        find_app(words[words.index("-A") + 1]).loader.import_default_modules()
        return
    start = Flower.start

    def started(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Only now: Flower has taken its port (or failed), so that it is not another's answer that is heard.
        threading.Thread(target=watch, args=(address(words),), daemon=True).start()
        # Flower's own handler raises wherever it is, also where Python drops what is raised: in a destructor.
        self.io_loop.asyncio_loop.add_signal_handler(signal.SIGTERM, self.io_loop.stop)
        return start(self, *args, **kwargs)

    Flower.start = started
    from celery.__main__ import main as celery

    sys.argv = ["celery", *words]
    sys.exit(celery())


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # the app's modules are found as with `python -m celery`, and none of the toolkit's
    main(sys.argv[1:])
