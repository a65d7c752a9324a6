"""All that holds for a fleet, on this scenario's hosts."""

from common import *  # noqa: F403 - pytest collects the tests of that file here
