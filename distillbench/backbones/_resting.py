"""Networks that leave their device while nobody calls them."""

from __future__ import annotations

from typing import Any

from distillbench.api import backbone as api

__all__ = ["Resting"]


class Resting:
    """A network, and the device that it is on whenever it is asked for."""

    def __init__(self, module: Any) -> None:
        self._module, self._device = module, module.device

    def rest(self) -> None:
        """Free its device."""
        self._module.to(api.RESTING_PLACE)

    def awake(self) -> Any:
        """The network on its device."""
        if self._module.device != self._device:
            self._module.to(self._device)
        return self._module
