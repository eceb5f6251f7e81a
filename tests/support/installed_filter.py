"""The seccomp filters that the kernel holds of a process, as programs: read back by ptrace.

Source: ptrace(2), PTRACE_SECCOMP_GET_FILTER; it needs CAP_SYS_ADMIN, and a kernel with CONFIG_CHECKPOINT_RESTORE.
"""

from __future__ import annotations

import ctypes
import errno
import os

_ATTACH, _DETACH, _GET_FILTER = 16, 17, 0x420C
_INSTRUCTION_BYTES = 8


def installed_filters(pid: int) -> list[bytes]:
    """The filters of a process, the newest first; the kernel asks each of them about every call."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long

    def ask(request: int, place: int = 0, buffer: ctypes.Array[ctypes.c_char] | None = None) -> int:
        done = int(libc.ptrace(request, pid, place, buffer))
        if done < 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
        return done

    ask(_ATTACH)
    os.waitpid(pid, 0)
    try:
        found: list[bytes] = []
        while True:
            try:
                count = ask(_GET_FILTER, len(found))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return found
                raise
            buffer = ctypes.create_string_buffer(count * _INSTRUCTION_BYTES)
            ask(_GET_FILTER, len(found), buffer)
            found.append(buffer.raw)
    finally:
        ask(_DETACH)
