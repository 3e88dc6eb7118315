"""Scores of a package in an environment of its own, beside the native ones of the same network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar, Literal

from pydantic import PositiveInt, model_validator

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import Samples
from distillbench.files.places import Need
from distillbench.score import package_worker
from distillbench.score.choice import OneNetwork
from distillbench.score.envs import ENVIRONMENTS, environment_python, is_created
from distillbench.score.precision import PrecisionConfig
from distillbench.score.worker import ask

__all__ = ["BackendConfig", "Packaged", "environment_need", "pinned_package"]


class BackendConfig(PrecisionConfig):
    """Settings of a metric that a package computes too.

    Attributes:
        backend: native | package, its own package in its environment.
        patience: seconds after which a worker that says nothing counts as hung.
        python: the interpreter that has the package; "" is that of the environment.
    """

    # The revision names the package, so that keys of native scores are what they were.
    backend: Annotated[Literal["native", "package"], NEUTRAL] = "native"
    patience: Annotated[PositiveInt, NEUTRAL] = 600
    python: Annotated[str, NEUTRAL] = ""

    @model_validator(mode="after")
    def _lowered_natively(self) -> BackendConfig:
        if self.backend == "package" and self.precision != "float32":
            raise ValueError(f"precision: {self.precision} is of the native backend alone")
        return self


def pinned_package(name: str) -> str:
    """The requirement that an environment is made for, such as "hpsv2==1.2.0"."""
    wanted = ENVIRONMENTS[name]
    return next(r for r in (*wanted.no_deps, *wanted.requirements) if r.startswith(f"{name}=="))


def environment_need(name: str, python: str = "") -> Need:
    """An environment as something a run needs."""
    there = bool(python) or is_created(name)
    problem, fix = ("", "") if there else ("is not there", f"distillbench env create {name}")
    return Need("package", f"environment {name}", problem, fix)


class Packaged(OneNetwork):
    """A metric with one network whose own package can score in its place.

    Attributes:
        package: name of the environment that has it.
    """

    package: ClassVar[str]

    @property
    def by_package(self) -> bool:
        """Whether the package scores."""
        return bool(self.config.backend == "package")

    def revision(self) -> str:
        """Identity of the network's weights, and of the package where it scores."""
        own = super().revision()
        return f"{own}+{pinned_package(self.package)}" if self.by_package else own

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The network, and the environment where its package scores."""
        needs = super().requirements(n, prompts)
        more = (environment_need(self.package, self.config.python),) if self.by_package else ()
        return (*needs, *more)

    def find_package(self, device: str) -> None:
        """Look for the environment. Raises BadInput."""
        self._python = self.config.python or str(environment_python(self.package))
        self._device = device

    def told(self) -> dict[str, str]:
        """What the protocol says of it: nothing of native scores."""
        return {"backend": pinned_package(self.package)} if self.by_package else {}

    def package_scores(self, samples: Samples, job: Mapping[str, Any]) -> list[float]:
        """One score a picture; they are handed over as PNG, which loses nothing.

        Args:
            samples: pictures.
            job: what the package's function in `package_worker` reads.

        Raises:
            StageFailed: the worker died, hung or left a picture out.
        """
        from PIL import Image

        with TemporaryDirectory() as folder:
            items = []
            pairs = zip(samples.data, samples.prompts, strict=True)
            for number, (picture, prompt) in enumerate(pairs):
                path = Path(folder) / f"{number:06d}.png"
                Image.fromarray(picture.numpy()).save(path, compress_level=1)
                items.append({"picture": str(path), "prompt": prompt})
            asked = {"what": f"package {self.package}", "package": self.package,
                     "device": self._device, **job}  # fmt: skip
            command = [self._python, str(package_worker.__file__)]
            return ask(command, asked, items, patience=self.config.patience)[0]
