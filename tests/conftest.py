"""Settings shared by all tests: one thread, no network, no leftovers; and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture(autouse=True)
def _same_folder() -> Iterator[None]:
    """No test leaves the working folder changed for the next, whose paths begin there."""
    before = os.getcwd()
    yield
    os.chdir(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, the machine's own; pages are not tried where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: no page was opened in a browser"
    )
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH (apt-get install chromium): no page was opened in one")
    with playwright.sync_playwright() as driver:
        # As root, in containers too, Chromium starts without its sandbox only.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
