# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out takes nothing with it."""

import gc
import weakref

import pytest
import torch

from ex4d.errors import MachineError
from ex4d.generation.wan.out_of_memory import let_go, ran_out


def work(held: list[weakref.ref[torch.Tensor]], device: torch.device, error: Exception | None) -> None:
    """Holds a tensor when memory runs out."""
    tensor = torch.zeros(1000, device=device)
    held.append(weakref.ref(tensor))
    if error is not None:
        raise error
    torch.empty(2**50, dtype=torch.uint8, device=device)


def guarded(held: list[weakref.ref[torch.Tensor]], device: torch.device, error: Exception | None = None) -> None:
    try:
        work(held, device, error)
    except (RuntimeError, MemoryError) as failure:
        if not ran_out(failure):
            raise
        let_go(failure)
        raise MachineError("too little memory") from failure


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
        None,  # torch's own, of main memory
    ],
    ids=["gpu", "cublas", "python", "main memory"],
)
def test_nothing_of_the_failed_work_stays_while_its_error_is_looked_at(error):
    held = []
    with pytest.raises(MachineError) as caught:
        guarded(held, torch.device("cpu"), error)
    assert held[0]() is None
    assert ran_out(caught.value.__cause__)
    guarded_again = []
    with pytest.raises(MachineError):
        guarded(guarded_again, torch.device("cpu"), error)  # and the next one fares the same


def test_other_failures_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="shapes"):
        guarded([], torch.device("cpu"), RuntimeError("shapes differ"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_whose_memory_is_capped_is_free_again():
    cuda = torch.device("cuda")
    torch.cuda.set_per_process_memory_fraction(0.05)
    try:
        gc.collect()
        before = torch.cuda.memory_allocated()
        with pytest.raises(MachineError) as caught:
            guarded([], cuda)
        assert torch.cuda.memory_allocated() == before
        assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
        assert float(torch.ones(1000, device=cuda).sum()) == 1000
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
