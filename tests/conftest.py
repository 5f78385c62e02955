"""What every test runs under: checked shapes, two tiers, and skips that name what is missing.

jaxtyping with beartype checks the shapes of the functions of ``elboscope.core``, through which
every tensor passes; ``ELBOSCOPE_SHAPES=elboscope`` (``make test-all``) checks the whole package,
which costs a fifth of the time. Tests marked ``slow`` are the second tier: ``make test`` leaves
them out. Tests marked ``browser`` need a Chromium, tests marked ``full_data`` the full data sets
in ELBOSCOPE_DATA; they are skipped where that is absent, unless ELBOSCOPE_REQUIRE lists the
marker: then they fail.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

hook = install_import_hook(
    os.environ.get("ELBOSCOPE_SHAPES", "elboscope.core"), "beartype.beartype"
)


# Started by nohup, a process ignores SIGHUP, and so does what it tests: some tests send one.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def chromium() -> str | None:
    """Returns the path of an installed Chromium."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def full_data() -> Path | None:
    """Returns the folder with the full data sets, if the environment names one."""
    folder = os.environ.get("ELBOSCOPE_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


NEEDS = {
    "browser": (chromium, "no Chromium is installed"),
    "full_data": (full_data, "ELBOSCOPE_DATA names no folder with the full data sets"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = os.environ.get("ELBOSCOPE_REQUIRE", "").split(",")
    for marker, (find, reason) in NEEDS.items():
        if item.get_closest_marker(marker) and find() is None:
            (pytest.fail if marker in required else pytest.skip)(reason)
