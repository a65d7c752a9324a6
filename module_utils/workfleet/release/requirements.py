"""What pip is told of ``app_requirements``: one call, or two where hashes are required.

Pip that finds a hash wants one for all that it installs, and what lies in the release has none. So that is installed by a call of its
own then, and without what it depends on: this is what the hashed requirements are.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from ..errors import WorkfleetError
from ..host import effects

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACKAGES = (".whl", ".zip", ".tar.gz")
REQUIRE = "--require-hashes"
_HASHED = re.compile(rf"(?m)^(?:[^#\n]*\s--hash[= ]|\s*{REQUIRE}\b)")
_TAKES = re.compile(r"(-r|--requirement|-e|--editable)[ \t=]+(.+)\Z")
#: A line of a requirements file that names a path: ``.``, ``./lib[extra]``, ``-e .``; not one that goes on in the next line.
_LOCAL = re.compile(r"(?m)^[ \t]*((?:(?:-e|--editable)[ \t=]+)?\.{1,2}(?:[/\[ \t;][^#\n\\]*)?)(?:#.*)?$\n?")


class Requirements(NamedTuple):
    """Arguments for pip: ``options`` of every call, and what it installs: ``ordinary`` requirements, and what is ``local`` to the release.

    ``rests`` are requirements files, each with the path where it is to be put without its local lines.
    """

    options: list[str]
    ordinary: list[str]
    local: list[str]
    rests: dict[str, str]
    is_hashed: bool

    def calls(self) -> list[list[str]]:
        """Return the arguments of each call."""
        if self.is_hashed and self.local:
            second = [*(word for word in self.options if word != REQUIRE), "--no-deps", *self.local]
            return [*([[*self.options, *self.ordinary]] if self.ordinary else []), second]
        install = [*self.ordinary, *self.local]
        return [[*self.options, *install]] if install else []


def parse(entries: Iterable[str], src: str, package: Sequence[str] = ()) -> Requirements:
    """Return what pip is to be told. ``src`` is the release, where pip runs; nobody else comes there yet. ``package`` was sent to us.

    An entry is an option of pip (it begins with ``-``), a file of requirements or a package file inside the release,
    the release itself (``.``, ``.[extra]``) or an ordinary requirement.
    """
    found = Requirements([], [], list(package), {}, False)
    files: list[str] = []
    for entry in entries:
        taken = _TAKES.match(entry)
        option, value = (taken[1], " ".join(shlex.split(taken[2]))) if taken else ("", entry)
        if entry.startswith("-") and not taken:
            found.options.extend(shlex.split(entry))
        elif option in ("-e", "--editable"):
            (found.local if is_local(value, src) else found.ordinary).extend(["-e", value])
        elif option or (os.path.isfile(os.path.join(src, value)) and not value.endswith(PACKAGES)):
            files.append(value)
        elif re.search(r"\.(txt|in)\Z", value):
            raise WorkfleetError(f"app_requirements: {value} is not in the release; files are named from its top")
        else:
            (found.local if is_local(value, src) else found.ordinary).append(value)
    return with_files(found, files, src)


def is_local(value: str, src: str) -> bool:
    """Whether pip would take a requirement for a path: the release itself, a directory or package file in it."""
    path = value.partition("[")[0]
    return path.startswith(".") or (os.path.exists(os.path.join(src, path)) and ("/" in path or path.endswith(PACKAGES)))


def with_files(found: Requirements, files: Iterable[str], src: str) -> Requirements:
    """Add files of requirements; of one with hashes the local lines become requirements of their own."""
    is_hashed, rests = REQUIRE in found.options, {}
    for file in files:
        # The source is judged: no link leads out of it.
        text = "" if os.path.isabs(file) else effects.read(os.path.realpath(os.path.join(src, file))) or ""
        lines = [line.strip() for line in _LOCAL.findall(text)] if _HASHED.search(text) else []
        is_hashed = is_hashed or bool(_HASHED.search(text))
        for line in lines:
            taken = _TAKES.match(line)
            found.local.extend(["-e", taken[2]] if taken else [line])
        if lines:
            # Beside the file, for what that names in turn.
            folder, name = os.path.split(file)
            file = os.path.join(folder, f".workfleet-{name}")
            rests[os.path.join(os.path.realpath(os.path.join(src, folder)), f".workfleet-{name}")] = _LOCAL.sub("", text)
        found.ordinary.extend(["-r", file])
    return found._replace(rests=rests, is_hashed=is_hashed)
