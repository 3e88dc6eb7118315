"""The times of a teacher, known before it is loaded: of students, solvers and samplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from distillbench.core.schedules import flow_grid, shifted_nodes, solver_grid, tdm_nodes, trailing
from distillbench.errors import NotSupported

__all__ = ["Times"]


class Times:
    """Integers from T - 1 down of diffusion, reals from T down of flow models; no torch.

    Attributes:
        process_kind: diffusion ("vp") or flow matching, known before anything is loaded.
        name: the registered name, set by the registry.
        num_timesteps: T, the number of training times.
    """

    process_kind: ClassVar[Literal["vp", "flow"]] = "vp"
    name: str = ""
    num_timesteps: int = 1000

    @property
    def time_shift(self) -> float:
        """g of S(u) = g u / (1 + (g - 1) u), which spaces the times of a flow model; 1 is evenly.

        The other families' `nodes` know their own.
        """
        return 1.0

    def nodes(self, steps: int) -> tuple[int, ...]:
        """Input times of a `steps`-step student, first to last.

        u_i = floor((i + 1) T / K) - 1 for i = K-1..0 (TDM, arXiv 2503.06674, section 4); equal
        to the DDIM "trailing" times where K divides T. Flow models: floor(T S(i / K)), i = K..1,
        which is 1000, 900, 750, 500 for 4 steps and a shift of 3. Diffusion families with a time
        shift override it.
        """
        if self.process_kind == "flow":
            return shifted_nodes(steps, self.time_shift, self.num_timesteps, flow=True)
        return tdm_nodes(steps, self.num_timesteps)

    def solver_grid(self, steps: int) -> tuple[float, ...]:
        """Times of N solver steps, rising to the noisiest, on which consistency methods train.

        k j - 1 for j = 1..N with k = T / N; of flow models the real times T S(j / N).

        Raises:
            NotSupported: N is more than T, or does not divide the integer times.
        """
        flow, total = self.process_kind == "flow", self.num_timesteps
        if steps > total or (not flow and total % steps):
            what = "are more than the" if steps > total else "do not divide"
            raise NotSupported(
                f"{steps} solver steps {what} {total} times of backbone {self.name}",
                hint=f"set solver_steps to a {'number' if flow else 'divisor'} of at most {total}",
            )
        return flow_grid(steps, self.time_shift, total) if flow else solver_grid(steps, total)

    def check_times(self, times: Sequence[float]) -> None:
        """Refuse sampling times that the process has not; known without torch.

        Raises:
            NotSupported: a time above the noisiest; a time between the integers of diffusion; of a
                flow model time 0, the data, or a start at T - 1, where integer times start.
        """
        flow, total = self.process_kind == "flow", self.num_timesteps
        last = total if flow else total - 1
        kind = f"above 0, up to {last}" if flow else f"the integers 0 to {last}"
        for time in times:
            if time > last or (time <= 0 if flow else not isinstance(time, int)):
                raise NotSupported(
                    f"sampling time {time:g}: the times of backbone {self.name} are {kind}"
                )
        if flow and times[0] == total - 1:
            raise NotSupported(
                f"sampling times from {times[0]:g} are those of integer grids: pure noise of the "
                f"flow model {self.name} is at {last}"
            )

    def solver_times(self, nfe: int) -> tuple[int, ...]:
        """Times at which the teacher itself is sampled, first to last.

        The "trailing" ones, and not `nodes`: a family may train few-step students at times shifted
        otherwise. Flow models are sampled at their own shifted times, which `nodes` are.
        """
        flow = self.process_kind == "flow"
        return self.nodes(nfe) if flow else trailing(nfe, self.num_timesteps)
