# SPDX-License-Identifier: Apache-2.0
"""Telling that memory ran out from other failures, and letting go of what the failed work held.

    except (RuntimeError, MemoryError) as error:
        if not ran_out(error): raise
        let_go(error)
        raise MachineError("... what would fit ...") from error

An exception holds the frames it came through, and those hold their tensors: as long as somebody looks at the error,
the memory of the job that failed would stay taken.
"""

import gc
import traceback

import torch

# What torch raises as a plain RuntimeError.
_WORDS = (
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "DefaultCPUAllocator: ",  # in main memory
)


def ran_out(error: BaseException) -> bool:
    """Whether it says that the GPU's or the main memory was not enough."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def in_main_memory(error: BaseException) -> bool:
    """Whether what ran out was main memory, not the GPU's."""
    return isinstance(error, MemoryError) or "DefaultCPUAllocator: " in str(error)


def let_go(error: BaseException) -> None:
    """Free what the frames of an error and of its causes hold, and give it back to the GPU's other programs.

    Frames that still run, the caller's own among them, keep theirs.
    """
    chain: list[BaseException] = []
    more: list[BaseException | None] = [error]
    while more:
        link = more.pop()
        if link is not None and link not in chain:
            chain.append(link)
            more += [link.__cause__, link.__context__]
    for link in chain:
        traceback.clear_frames(link.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
