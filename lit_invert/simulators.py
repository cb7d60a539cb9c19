"""A frozen surrogate under forcing that never changes: simulate, and push tangents of the static parameters forward.

There is one way to simulate and a ladder of ways to do it fast. The surrogate itself always works, and serves any device and type.
Our own LSTM, in float32 on the CPU, runs in a kernel instead: the compiled one where a C compiler is at hand, else numba's where it
is installed. Where neither works, one of plain PyTorch pushes tangents, and nn.LSTM, which is faster at the rest, does the rest.
Before a kernel is used it simulates a few days beside the surrogate itself; one that differs is not used.

Tangents come from the kernel where there is one, from torch's forward mode where the surrogate allows it, and from differences of a
batch of simulations for everything else: any module, TorchScript, exported programs.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from .errors import ConfigError, KernelError, suggest
from .kernels.frozen import FrozenLSTM, Kernel
from .kernels.plain import PlainKernel
from .surrogates.base import Forcing, FrozenSurrogate
from .surrogates.folded import FoldedLSTM
from .surrogates.held import HeldForcing
from .surrogates.lstm import LSTMSurrogate

KernelName = Literal["auto", "native", "numba", "torch", "none"]
Arithmetic = Literal["auto", "float32", "split", "bfloat16"]

#: Largest relative difference between a kernel and the surrogate itself; a hundred times that in tangents.
TOLERANCE = 1e-4
_LADDER = ("native", "numba", "torch")  # from the fastest
_RUNS = {"numba": "numba's kernel runs", "torch": "the kernel of plain PyTorch runs", "none": "PyTorch itself runs"}
_CHECKED_DAYS = 40  # more than a kernel takes at once
_STEP = {torch.float32: 2e-3, torch.float64: 1e-6}
_SIMULATED_BYTES = 1 << 26  # what a batch of differences may hold at once, by a rough count; more members leave the second cache
_log = logging.getLogger("lit_invert")


class Simulator(nn.Module):
    """A surrogate with its forcing: from static parameters to fluxes.

    Args:
        surrogate: The frozen surrogate.
        forcing: Physical drivers, a (1 or B, T, F)-dim tensor, or a dict of tensors for windowed surrogates.
        kernel: Which kernel runs our own LSTM: `native`, `numba`, `torch`, `none`, or `auto`, the fastest that works here.
        arithmetic: Of the tangents in the native kernel: `float32`, `split` (three bfloat16 products for one of float32),
            `bfloat16`, or `auto`: `split` where the processor has bfloat16.
        threads: Threads of the kernel and of batches of differences; 0 for one a processor that this process may use.

    Raises:
        ConfigError: If the kernel or arithmetic is unknown.
        KernelError: If a kernel is asked for by name and does not work here.
    """

    def __init__(
        self,
        surrogate: FrozenSurrogate,
        forcing: Forcing,
        kernel: KernelName = "none",
        arithmetic: Arithmetic = "auto",
        threads: int = 0,
    ) -> None:
        super().__init__()
        _check_choice("inversion.kernel", kernel, get_args(KernelName))
        _check_choice("inversion.arithmetic", arithmetic, get_args(Arithmetic))
        self.surrogate, self._threads = surrogate, threads or _processors()
        self._prepared = HeldForcing(surrogate.prepare(forcing))
        self._folded: FoldedLSTM | None = None
        self.kernel = "none"
        if kernel != "none":
            self._use_kernel(kernel, arithmetic, self._threads)

    @property
    def prepared(self) -> Forcing:
        """Forcing as the network takes it."""
        return self._prepared.value

    def forward(self, scaled: Tensor, rows: Tensor | None = None) -> Tensor:
        """Simulate.

        Args:
            scaled: Scaled static parameters, a (B, P)-dim tensor.
            rows: Which row of the forcing belongs to each member, where each has its own; None: in order.

        Returns:
            A (B, T, V)-dim tensor [gC m-2 d-1].
        """
        if self._folded is not None and self.kernel != PlainKernel.name and self._is_for_kernel(scaled):
            return self.surrogate.to_fluxes(self._folded(scaled, rows))
        simulated: Tensor = self.surrogate(scaled, self._prepared.rows(rows))
        return simulated

    def push(self, scaled: Tensor, directions: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Simulate, and push K tangents of the static parameters forward.

        Args:
            scaled: Scaled static parameters, a (B, P)-dim tensor.
            directions: Their tangents, a (B, K, P)-dim tensor.
            rows: As in `forward`.

        Returns:
            Fluxes (B, T, V) and their derivatives along each direction (B, T, V, K) [gC m-2 d-1].
        """
        if self._folded is not None and self._is_for_kernel(scaled):
            simulated, tangents = self._folded.push(scaled, directions, rows)
            return self.surrogate.to_fluxes(simulated), tangents * self.surrogate.flux_factor[:, None]
        with torch.no_grad():
            if self._allows_forward_mode():
                return self._push_forward(scaled, directions, rows)
            return self._push_differences(scaled, directions, rows)

    def first(self, days: int) -> Simulator:
        """Return the same for the first days alone; at least a year, so that a climatology stays what it was."""
        shorter = copy.copy(self)
        shorter._modules = {**self._modules, "_prepared": self._prepared.first(days)}
        if self._folded is not None:
            shorter._folded = self._folded.first(days)
        return shorter

    def _is_for_kernel(self, scaled: Tensor) -> bool:
        is_plain = forward_ad.unpack_dual(scaled).tangent is None  # a kernel does not know torch's dual numbers
        return is_plain and scaled.dtype == torch.float32 and scaled.device.type == "cpu"

    def _use_kernel(self, kernel: KernelName, arithmetic: Arithmetic, threads: int) -> None:
        faults = []
        for name in _LADDER if kernel == "auto" else (kernel,):
            try:
                self._folded = self._fold(name, arithmetic, threads)
                self.kernel = name
                break
            except KernelError as error:
                if kernel != "auto":
                    raise
                faults.append(str(error))
        if faults and isinstance(self.surrogate.network, LSTMSurrogate):
            _say_once(f"lit-invert: {_RUNS[self.kernel]}, which takes longer: {faults[0]}")

    def _fold(self, kernel: str, arithmetic: Arithmetic, threads: int) -> FoldedLSTM:
        network, forcing = self.surrogate.network, self.prepared
        if not isinstance(network, LSTMSurrogate) or isinstance(forcing, dict):
            raise KernelError(
                f"kernels run this package's own LSTM, the surrogate is a {type(network).__name__}. Use kernel: none."
            )
        if not self.surrogate.spec.static_scaled:
            raise KernelError("kernels take scaled parameters, the surrogate's spec says `static_scaled: false`. Use kernel: none.")
        if forcing.dtype != torch.float32 or forcing.device.type != "cpu":
            raise KernelError(f"kernels compute in float32 on the CPU, the forcing is {forcing.dtype} on {forcing.device}.")
        folded = FoldedLSTM(network, forcing, _builder(kernel, arithmetic, threads))
        passed = _passed.setdefault(network, set())
        if (kernel, arithmetic) not in passed:  # its weights are frozen: once is enough
            _check_kernel(network, folded, forcing[:1, :_CHECKED_DAYS])
            passed.add((kernel, arithmetic))
        return folded

    def _allows_forward_mode(self) -> bool:
        """Say whether torch's forward mode goes through the network; through an RNN it would go day by day, in Python."""
        modules = list(self.surrogate.network.modules())
        if any(isinstance(module, (nn.RNNBase, torch.jit.ScriptModule)) for module in modules):
            return False
        if isinstance(self.prepared, dict):
            return False
        if self._forward_mode is None:
            zero = self.prepared.new_zeros(1, len(self.surrogate.spec.statics))
            first = torch.zeros(1, dtype=torch.long, device=zero.device)
            try:
                self._push_forward(zero, zero[:, None], first)
                self._forward_mode = True
            except (RuntimeError, TypeError, ValueError):
                self._forward_mode = False  # an operation without a forward derivative, or a module that is not torch's
        return self._forward_mode

    _forward_mode: bool | None = None

    def _push_forward(self, scaled: Tensor, directions: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        forcing = self._prepared.rows(rows)

        def push(direction: Tensor) -> Any:
            return torch.func.jvp(lambda x: self.surrogate(x, forcing), (scaled,), (direction,))

        shared_and_last: Any = (None, 3)
        some = torch.func.vmap(push, in_dims=1, out_dims=shared_and_last)
        parts = [some(part) for part in directions.split(max(1, self._most_members() // len(scaled)), dim=1)]
        return parts[0][0], torch.cat([tangents for _, tangents in parts], dim=3)

    def _push_differences(self, scaled: Tensor, directions: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Differences of a batch of simulations: one-sided in float32, where rounding leaves no room for more, else central."""
        members, count, _ = directions.shape
        size = _STEP.get(scaled.dtype, 2e-3)
        reach = directions.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(scaled.dtype).tiny)
        steps = size / reach * directions
        central = scaled.dtype == torch.float64
        parts = [scaled[:, None], scaled[:, None] + steps] + ([scaled[:, None] - steps] if central else [])
        points = torch.cat(parts, dim=1)
        owner = (torch.arange(members, device=scaled.device) if rows is None else rows).repeat_interleave(points.shape[1])
        simulated = self._in_chunks(points.flatten(0, 1), owner).unflatten(0, (members, -1))
        base, ahead = simulated[:, 0], simulated[:, 1 : count + 1]
        change = (ahead - simulated[:, count + 1 :]) / 2 if central else ahead - base[:, None]
        return base, (change * (reach / size)[..., None]).permute(0, 2, 3, 1)

    def _in_chunks(self, points: Tensor, rows: Tensor) -> Tensor:
        threads = self._threads if self._is_ours_on_cpu() else 1
        count = max(threads, -(-len(points) // self._most_members()))  # even: an LSTM takes as long for two members as for eight
        chunks = list(zip(points.tensor_split(count), rows.tensor_split(count), strict=True))
        if threads == 1:
            return torch.cat([self(part, owner) for part, owner in chunks])
        with ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(self._simulate_chunk, chunks)))

    def _simulate_chunk(self, chunk: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():  # a new thread knows nothing of the caller's
            simulated: Tensor = self(*chunk)
        return simulated

    def _is_ours_on_cpu(self) -> bool:
        """Say whether chunks may run side by side: of other modules one does not know whether they bear it.

        Threads of torch's own are left alone: they wait for each other in every layer, and under load for longer than they compute.
        """
        return isinstance(self.surrogate.network, LSTMSurrogate) and self._prepared.part.device.type == "cpu"

    def _most_members(self) -> int:
        """Return how many members one call may simulate."""
        first = self._prepared.part
        return (
            max(1, _SIMULATED_BYTES // (first.element_size() * first.shape[1] * self.surrogate.width))
            if first.device.type == "cpu"
            else 4096
        )


def _check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"`{key}` is {value!r}.{suggest(value, allowed)}")


def _builder(name: str, arithmetic: Arithmetic, threads: int) -> Callable[[FrozenLSTM], Kernel]:
    if name == "numba":
        from .kernels.jit import NumbaKernel  # numba is an extra, and takes a second to import

        return NumbaKernel
    if name == PlainKernel.name:
        return PlainKernel
    from .kernels.native import NativeKernel, has_bfloat16

    tangents = ("split" if has_bfloat16() else "float32") if arithmetic == "auto" else arithmetic
    return lambda network: NativeKernel(network, tangents=tangents, threads=threads)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: Kernels that each network has been compared with.
_passed: WeakKeyDictionary[nn.Module, set[tuple[str, str]]] = WeakKeyDictionary()


def _check_kernel(network: LSTMSurrogate, folded: FoldedLSTM, forcing: Tensor) -> None:
    """Compare the three passes of a kernel with the network itself over the first days.

    Raises:
        KernelError: If they differ.
    """
    static = torch.linspace(-1.0, 1.0, network.n_static)[None].requires_grad_()
    direction, rows = torch.ones(1, 1, network.n_static), torch.zeros(1, dtype=torch.long)
    climate = None if folded.climate is None else folded.climate[:1]
    few = folded.first(forcing.shape[1])
    with torch.enable_grad():
        expected, found = network(static, forcing, climate), few(static, rows)
        weights = torch.cos(torch.arange(expected.numel())).reshape(expected.shape)
        slope, pulled = (torch.autograd.grad((y * weights).sum(), static)[0] for y in (expected, found))
    _, tangent = few.push(static.detach(), direction, rows)
    pushed = (tangent[..., 0] * weights).sum()
    scale = slope.abs().sum()
    for name, off, size in (
        ("simulation", found - expected, expected.abs().max()),
        ("gradient", pulled - slope, scale),
        ("tangent", 1e-2 * (pushed - slope.sum()), scale),  # bfloat16 has three digits
    ):
        error = (off.abs().max() / size.clamp_min(torch.finfo(size.dtype).tiny)).item()
        if not error <= TOLERANCE:
            raise KernelError(f"the {name} of a kernel is off by {error:.1e} of the surrogate's own, allowed are {TOLERANCE:.0e}.")


_said: set[str] = set()


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        _log.warning(message)
