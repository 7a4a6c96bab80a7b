# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that are compiled all at the same time and launched in microseconds.

Triton looks at every argument of every launch to choose the machine code for it, which takes longer than the GPU needs
for a small picture, and compiles kernels one after the other. Here a kernel's machine code depends on its constants
alone: an argument's type follows from its name, and its value or alignment changes nothing.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from subprocess import CalledProcessError
from threading import Lock
from typing import Any

import torch
import triton

from ex4d.errors import MachineError

_lock = Lock()
COMPILERS = 8  # threads; Triton's own share of the work runs in one at a time, the assembler's and the C compiler's not

# The tensors of all kernels by name. What is not here and no constant is a whole number of 32 bits.
TENSORS = {
    "depth": torch.float32,
    "visible": torch.uint8,
    "alpha": torch.uint8,
    "ray_x": torch.float64,
    "ray_y": torch.float64,
    "u": torch.float64,
    "v": torch.float64,
    "steepness": torch.float64,
    "changes": torch.int64,
    "matrices": torch.float64,
    "ways_back": torch.float64,
    "source": torch.int32,
    "textures": torch.uint8,
    "keys": torch.int64,
    "faces": torch.int32,
    "counts": torch.int32,
    "rgba": torch.float32,
    "nearness": torch.float32,
    "color": torch.uint8,
    "mask": torch.uint8,
    "out_depth": torch.float32,
}


def kernel(function: Callable[..., None]) -> Any:
    """What `triton.jit` makes of a function, with machine code for any value and alignment of its arguments."""
    names = [name for name, argument in inspect.signature(function).parameters.items() if not _is_constant(argument)]
    return triton.jit(function, do_not_specialize=names, do_not_specialize_on_alignment=names)


def _is_constant(argument: inspect.Parameter) -> bool:
    return argument.annotation is triton.language.constexpr


class Kernel:
    """One kernel with its constants, for any device.

    function: see `kernel`; its constants are its last arguments. constants: their values, in order. options: Triton's.
    """

    def __init__(self, function: Any, *constants: object, **options: object) -> None:
        self._function, self._constants, self._options = function, constants, options
        self.compiled: dict[int, Future[Any]] = {}

    def __call__(self, grid: tuple[int, int], *arguments: object) -> None:
        if not isinstance(self._function, triton.JITFunction):  # Triton's interpreter, on the processor
            self._function[grid](*arguments, *self._constants)
            return
        device = torch.cuda.current_device()
        if device not in self.compiled:
            compile_together([self])
        self.compiled[device].result()[(*grid, 1)](*arguments, *self._constants)

    def compile(self, device: int) -> Any:
        """Machine code for a device, as Triton's CompiledKernel, ready to be launched.

        Raises:
            MachineError: there is no C compiler, which Triton needs to build what launches the kernel.
        """
        names = self._function.arg_names[: len(self._function.arg_names) - len(self._constants)]
        types = [TENSORS.get(name, 2) for name in names]  # 2: any whole number
        with torch.cuda.device(device), c_compiler_needed():
            code = self._function.warmup(*types, *self._constants, grid=(1, 1, 1), **self._options)
            assert code.run is not None  # asking for it builds its launcher and loads it
        return code


def compile_together(kernels: Iterable[Kernel]) -> None:
    """Begin to compile kernels for the current device, in threads; their first launch waits for them."""
    device = torch.cuda.current_device()
    with _lock:
        missing = [one for one in kernels if device not in one.compiled]
        if missing:
            pool = ThreadPoolExecutor(COMPILERS, thread_name_prefix="ex4d-compile")
            for one in missing:
                one.compiled[device] = pool.submit(one.compile, device)
            pool.shutdown(wait=False)


@contextmanager
def c_compiler_needed() -> Iterator[None]:
    """Turns what Triton raises where it cannot build C code into what to install."""
    try:
        yield
    except (RuntimeError, FileNotFoundError, CalledProcessError) as error:
        if type(error) is RuntimeError and "C compiler" not in str(error):
            raise
        raise MachineError(
            "The native rasteriser builds its kernels on this machine, which needs a C compiler and Python's headers, "
            f"but there was: {error} Install them (Debian and Ubuntu: gcc and python3-dev; Fedora: gcc and "
            "python3-devel), or choose the cpu rasteriser."
        ) from error
