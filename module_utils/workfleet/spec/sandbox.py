"""What systemd keeps from the processes of a unit of ours, by level and by the names of systemd.exec(5).

What a directive breaks was found by trying each alone, on Debian 12 and 13: docs/sandbox.md has the table, and
tests/integration/test_sandbox.py tries it again.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from .. import forms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: What any worker bears: prefork, subprocesses, C extensions, compilers at run time, browsers, its own files, /tmp and /home.
_BASIC = {
    "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "full", "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes", "ProtectKernelLogs": "yes", "ProtectControlGroups": "yes", "ProtectClock": "yes",
    "ProtectHostname": "yes", "RestrictSUIDSGID": "yes", "RestrictRealtime": "yes", "LockPersonality": "yes",
    "SystemCallArchitectures": "native", "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
}
#: What leaves the files of ``basic``, for programs that are known: supervisord with all that it starts, celery beat, Flower.
#: Without the error number a refused call would kill, which looks like a lost worker.
_SERVICE = {**_BASIC, "RestrictNamespaces": "yes", "SystemCallFilter": "@system-service", "SystemCallErrorNumber": "EPERM"}
_STRICT = {
    **_SERVICE, "ProtectSystem": "strict", "ProtectHome": "yes", "ProtectProc": "invisible", "PrivateTmp": "yes", "PrivateDevices": "yes",
    "PrivateMounts": "yes", "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6", "UMask": "0077",
}
LEVELS: Mapping[str, Mapping[str, str]] = {"none": {}, "basic": _BASIC, "service": _SERVICE, "strict": _STRICT}
#: What a user may ask for; ``service`` is what ``basic`` means for programs that are known.
CHOICES = ("basic", "strict", "none")
#: What directives hide whole; ``ReadWritePaths`` below that changes nothing.
HIDDEN = {"ProtectHome": ("/home", "/root", "/run/user"), "PrivateTmp": ("/tmp", "/var/tmp")}  # noqa: S108 - nothing is put there


def directives(level: str, without: Collection[str] = ()) -> dict[str, str]:
    """Return the directives of a level but for those that are switched off."""
    return {name: value for name, value in LEVELS[level].items() if name not in without}


def common(levels: Collection[str]) -> str:
    """Return the level of a unit that several groups share: one that must not be kept from anything frees all."""
    return "none" if "none" in levels else "service"


def shared_places(level: str, without: Collection[str]) -> tuple[str, ...]:
    """Return what must be named as writable: without a /tmp of its own a unit sees that of all, where it is to write as well."""
    chosen = directives(level, without)
    return HIDDEN["PrivateTmp"] if chosen.get("ProtectSystem") == "strict" and "PrivateTmp" not in chosen else ()


def hiding(level: str, paths: Collection[str]) -> list[str]:
    """Return the directives of a level that hide one of these paths."""
    return [name for name, places in HIDDEN.items() if name in LEVELS[level]
            and any(path == place or path.startswith(f"{place}/") for path in paths for place in places)]


def problems(level: str, without: Collection[str], writable: Collection[str], root: str) -> Iterator[str]:
    """Say which directives cannot be switched off, and which paths a node would not see; ``root`` is the app's directory."""
    known = LEVELS[level]
    word = "basic" if level == "service" else level
    for name in without:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            yield f"sandbox_without = {forms.quoted(name)}: {hint}" + (
                f"sandbox: {word} sets {', '.join(sorted(known))} here" if known else "sandbox: none sets nothing that could be left out")
    for key, path in (("app_root", root), *(("writable_paths", path) for path in writable)):
        for name in set(hiding(level, [path])) - set(without):
            yield (f"sandbox: strict hides all below {', '.join(HIDDEN[name])}, and with it {key} = {forms.quoted(path)}: take another "
                   f"place, or name {name} in sandbox_without")
