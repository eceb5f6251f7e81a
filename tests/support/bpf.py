"""A classic-BPF interpreter for seccomp filters, independent of libseccomp and of the kernel.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/filter.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
X32_BIT = 0x40000000

RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
RET_NOTIFY = 0x7FC00000
RET_ALLOW = 0x7FFF0000

M32 = 0xFFFFFFFF


def run_filter(program: bytes, number: int, arguments: Sequence[int] = (0,) * 6, arch: int = AUDIT_ARCH_X86_64) -> int:
    """Return what the filter answers to one call: an action with its data."""
    data = struct.pack("<IIQ6Q", number & M32, arch, 0, *arguments)
    instructions: list[tuple[int, int, int, int]] = list(struct.iter_unpack("<HBBI", program))
    accumulator = 0
    memory = [0] * 16
    at = 0
    while True:
        code, if_true, if_false, k = instructions[at]
        at += 1
        match code:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:  # BPF_ALU | BPF_AND | BPF_K
                accumulator &= k
            case 0x02:  # BPF_ST
                memory[k] = accumulator
            case 0x60:  # BPF_LD | BPF_MEM
                accumulator = memory[k]
            case 0x05:  # BPF_JMP | BPF_JA
                at += k
            case 0x15:  # BPF_JEQ
                at += if_true if accumulator == k else if_false
            case 0x25:  # BPF_JGT
                at += if_true if accumulator > k else if_false
            case 0x35:  # BPF_JGE
                at += if_true if accumulator >= k else if_false
            case 0x45:  # BPF_JSET
                at += if_true if accumulator & k else if_false
            case 0x06:  # BPF_RET | BPF_K
                return k
            case _:
                raise AssertionError(f"instruction {code:#x} is unknown to the test's interpreter")
