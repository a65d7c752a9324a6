"""The ``app_*`` words of a release as a payload for the host: parse, check, look at the source. Control node only."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from .. import engines, forms
from ..errors import WorkfleetError
from ..host import limits, release_choice
from ..model import App
from ..spec.checker import Checker, SpecError, plain
from ..spec.workers import parse_app
from . import shared, source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEYS = (
    "name",
    "user",
    "group",
    "root",
    "source",
    "python",
    "requirements",
    "shared_paths",
    "env",
    "secrets",
    "release_commands",
    "releases_kept",
    "pip_environment",
    "step_seconds",
    "broker_url",
    "result_url",
    "broker_env",
    "result_env",
    "broker_options",
    "run_commands",
    "commands_done",
    "release",
    "until",
    "hold",
    "foretold",
    "others",
    "holds",
    "why",
)
SOURCE_KEYS = ("type", "location", "version", "exclude")
#: The names in ``env/app.env`` where ``app_broker_env`` and ``app_result_env`` are not set.
BROKER_ENV = tuple(dict.fromkeys(name for engine in engines.ENGINES.values() for name in engine.broker_env))
RESULT_ENV = tuple(dict.fromkeys(name for engine in engines.ENGINES.values() for name in engine.result_env))
PYPI_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])?\Z")
#: Each is a virtualenv of its own.
MOST_RELEASES = 1000
WANTED = re.compile(rf"(?:[0-9a-f]{{12}}(?:\.[1-9][0-9]{{0,5}})?|{'|'.join(release_choice.WORDS)})?\Z")
PYPI_VERSION = re.compile(r"[A-Za-z0-9.!+_-]+\Z")


def parse(raw: Mapping[str, Any], inventory_hostname: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the payload without ``source`` and ``runners``, and the checked ``source``, if a release is declared.

    ``raw`` has the ``app_*`` variables without their prefix. Raises :class:`SpecError` with every mistake found.
    """
    problems: list[str] = []
    Checker("app_release", raw, problems).unknown(KEYS)
    check = Checker("app_", raw, problems)
    app = parse_app({key: value for key, value in raw.items() if value not in (None, "")}, problems)
    check_root(check, app.root)
    for key, name in (("user", app.user), ("group", app.group)):
        if name and not forms.ACCOUNT.match(name) and key not in check.refused:
            check.wrong(
                key, "must be the name of an account: a small letter or _, then up to 31 of a-z 0-9 _ -", given=name
            )
    environment, secret_names = whole_environment(app)
    commands = release_commands(check)
    declared = parse_source(raw.get("source"), problems)
    payload = {
        "host": inventory_hostname,
        "name": app.name,
        "user": app.user,
        "group": app.group,
        "root": app.root,
        "python": python(check),
        "requirements": requirements(check),
        "shared": shared_paths(check),
        "broker_env": list(BROKER_ENV if app.broker_env is None else app.broker_env),
        "broker_options": dict(app.broker_options),
        "stores": [app.broker_url, app.result_url],
        "environment": environment,
        "secret_names": secret_names,
        "commands": commands,
        "commands_done": list(check.texts("commands_done")),
        "run_commands": bool(raw.get("run_commands", True)),
        "kept": check.whole("releases_kept", 5, 1, MOST_RELEASES),
        "pip_environment": check.environment("pip_environment"),
        "step_seconds": check.seconds("step_seconds", limits.STEP_SECONDS, zero=False),
        "release": Checker("app_release", raw, problems).text(
            "release", "", pattern=WANTED,
            allowed=f"the id of a release, 12 of 0-9 a-f, or one of {', '.join(release_choice.WORDS)} (-e release=ID)"
        ),
        "until": check.choice("until", release_choice.LINKED, release_choice.STAGES),
        "hold": check.choice("hold", release_choice.OBEY, release_choice.HOLDS),
        "foretold": check.choice("foretold", "", ("", *release_choice.STAGES)),
        "others": bool(raw.get("others", False)),
        "holds": [{key: str(each.get(key, "")) for key in ("instead_of", "use", "why", "against")} for each in raw.get("holds") or ()],
        "why": str(raw.get("why") or ""),
    }
    if payload["release"]:
        declared = None
    elif declared is None and (payload["requirements"] or payload["shared"] or commands):
        problems.append("app_source: is not set, and app_requirements, app_shared_paths and app_release_commands need a release")
    if problems:
        raise SpecError(problems)
    return payload, declared


def python(check: Checker) -> str:
    """Return the Python of a virtualenv."""
    if check.raw.get("python") in (None, ""):
        return "python3"
    return str(check.value("python", "python3", forms.program, "the name of a program, or its absolute path"))


def requirements(check: Checker) -> list[str]:
    """Return what pip installs. Its words stand in the list of processes, and in what it says."""
    found = list(check.texts("requirements", "a list of pip requirements, each a text of one line"))
    if any(forms.has_credentials(entry) for entry in found):
        check.wrong(
            "requirements",
            "holds a URL with a password or a token, which the list of processes and the logs of pip show; give pip the URL of an "
            f"index by {check.entry}pip_environment: {{PIP_EXTRA_INDEX_URL: ...}}, and a repository by app_source or a key of the "
            "account's own",
            secret=True,
        )
        return []
    return found


def shared_paths(check: Checker) -> list[str]:
    """Return what outlives releases."""
    found = check.texts("shared_paths", "a list of paths in the release")
    for path in found:
        why = shared.wrong(path, found)
        if why:
            check.wrong("shared_paths", why, given=path)
    if len(found) > shared.MOST:
        check.wrong("shared_paths", f"holds {len(found)} paths, and {shared.MOST} may be: share directories around them", secret=True)
    return list(found)


def check_root(check: Checker, root: str) -> None:
    """Refuse a root that programs cannot be run from: a line of #! ends at a blank."""
    if re.search(r"\s", root):
        check.wrong("root", "must be an absolute path without spaces, as /opt/shop is", given=root)


def whole_environment(app: App) -> tuple[dict[str, str], list[str]]:
    """Return the app's environment, and which of its names are secret."""
    broker = {
        name: app.broker_url for name in (BROKER_ENV if app.broker_env is None else app.broker_env) if app.broker_url
    }
    result = {
        name: app.result_url for name in (RESULT_ENV if app.result_env is None else app.result_env) if app.result_url
    }
    whole = {**broker, **result, **app.env, **app.secrets}
    ordinary = set(app.env) - set(app.secrets)
    return whole, [name for name in whole if name not in ordinary]


def release_commands(check: Checker) -> list[list[str]]:
    """Return a list of argv lists. They are never repeated in a message: an argument may be a secret."""
    given = [] if check.raw.get("release_commands") is None else check.raw["release_commands"]
    found: list[list[str]] = []
    if not isinstance(given, (list, tuple)):
        check.wrong("release_commands", "must be a list of commands", secret=True)
        return found
    for number, argv in enumerate(given):
        try:
            if not isinstance(argv, (list, tuple)) or not argv:
                raise TypeError
            found.append([plain(word) for word in argv])
            if any(map(forms.has_credentials, argv)):
                check.wrong(
                    f"release_commands[{number}]",
                    "holds a URL with a password or a token, and every user of the host can read a command line; put it into app_secrets, "
                    "and have the program read it from its environment",
                    secret=True,
                )
        except (TypeError, ValueError):
            check.wrong(
                f"release_commands[{number}]",
                'must be a list of words, such as ["python", "manage.py", "migrate"]',
                secret=True,
            )
    return found


def parse_source(raw: Any, problems: list[str]) -> dict[str, Any] | None:
    """Return ``app_source`` as it was checked, or None where it is not set."""
    if raw in (None, "", {}):
        return None
    if not hasattr(raw, "items"):
        problems.append(f"app_source: must be a mapping with {', '.join(SOURCE_KEYS)}")
        return None
    check = Checker("app_source", raw, problems)
    check.unknown(SOURCE_KEYS)
    if raw.get("type") is None:
        check.wrong("type", f"is required: one of {', '.join(source.TYPES)}", secret=True)
    kind = check.choice("type", "directory", source.TYPES)
    location = check.text("location", "")
    version = check.value("version", None, version_text, "a text of one line; put quotes around it (YAML turns a bare 1.10 into 1.1)")
    exclude = None if raw.get("exclude") is None else check.texts("exclude")
    if not location or location.startswith("-"):
        check.wrong(
            "location", "is required: a path on the control node, a repository or the name of a package", secret=True
        )
    if version is not None and version.startswith("-"):
        check.wrong("version", "must not begin with -", given=version)
    if kind == "git" and version == "":  # such as a CI job gives whose own variable is not set: what is newest was not asked for
        check.wrong("version", "is empty: give a branch, a tag or a commit, or leave it out for what is newest", given=version)
    if kind == "pypi":
        if location and not PYPI_NAME.match(location):
            check.wrong(
                "location", "must be the name of a package, with extras if need be: shop[redis]", given=location
            )
        if version is None or not PYPI_VERSION.match(version):
            check.wrong("version", "is required with type pypi, one exact version, such as 1.4.2", given=version)
    if kind in ("directory", "archive") and version is not None:
        check.wrong("version", f"has no meaning with type {kind}: what the files are decides; leave it out, also behind -e", given=version)
    return {"kind": kind, "location": location, "version": version, "exclude": exclude}


def version_text(value: Any) -> str:
    """Return a version; YAML makes a number of one such as 2."""
    return forms.line(plain(value))


def located(declared: Mapping[str, Any], base: str, links: Sequence[str] = ()) -> dict[str, Any]:
    """Return the source with a relative path counted from ``base``, the inventory's directory.

    An inventory that is made of links (molecule's are) has the path where one of them leads to; ``links`` are these directories.
    """
    location = os.path.expanduser(declared["location"])
    local = declared["kind"] in ("directory", "archive") or (
        declared["kind"] == "git" and re.match(r"\.{0,2}/", location)
    )
    if not local:
        return {**declared, "location": location}
    places = [os.path.normpath(os.path.join(place, location)) for place in (base, *links)]
    found = next((place for place in places if os.path.exists(place)), "")
    if not found and not os.path.isabs(location):
        raise WorkfleetError(
            f"app_source: location: {location} is not on the control node: a relative path counts from the inventory's directory, {base}, "
            f"and {places[0]} does not exist. Give a path from there, or a whole one by a variable that every way to run has set: "
            "\"{{ lookup('ansible.builtin.env', 'CHECKOUT') }}/app\"")
    return {**declared, "location": found or places[0]}
