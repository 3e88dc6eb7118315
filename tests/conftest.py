"""Settings shared by all tests: one thread, no network, no leftovers; and a browser.

Tests may run in several processes beside each other, in whatever order (`make test` does so): each
begins with the same random state, and nothing that one leaves behind is another's input.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run alone come first: all in the share of one process, so that none waits."""
    items.sort(key=lambda item: "alone" not in getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test draws does not depend on the tests that ran before it in its process."""
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of these tests' own, never the user's or that of tests beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Test files that ask for it run one at a time, in whichever process each runs."""
    # The processes' base folders lie side by side in one folder.
    lock: Path = tmp_path_factory.getbasetemp().parent / "alone.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


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
