"""Executes a program in a way that hides it from who looks. Runs in a session: ``exec_ways.py WAY PROGRAM WORD...``.

``hidden`` memory is mapped to be written only: the kernel reads it, as x86 has no page that can be written and not read,
and ``process_vm_readv`` does not.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterable
from typing import NoReturn

PAGE = 4096
EXECVE, EXECVEAT = 59, 322
AT_EMPTY_PATH, AT_EXECVE_CHECK = 0x1000, 0x10000
PROT_READ, PROT_WRITE, PRIVATE_ANONYMOUS = 1, 2, 0x22

kept: list[ctypes.Array[ctypes.c_char]] = []
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.syscall.restype = ctypes.c_long


def partly(data: bytes, readable: int) -> int:
    """The address of ``data``, of which only the first bytes can be read."""
    at: int = libc.mmap(None, 3 * PAGE, PROT_READ | PROT_WRITE, PRIVATE_ANONYMOUS, -1, 0) + PAGE
    ctypes.memmove(at - readable, data, len(data))
    if libc.mprotect(at, 2 * PAGE, PROT_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    return at - readable


def hidden(data: bytes) -> int:
    """The address of ``data``, of which nothing can be read."""
    return partly(data, 0)


def array(addresses: Iterable[int]) -> bytes:
    """The bytes of an array of words."""
    return b"".join(address.to_bytes(8, "little") for address in (*addresses, 0))


def plain(data: bytes) -> int:
    """The address of ``data`` in usual memory, for good."""
    kept.append(ctypes.create_string_buffer(data, len(data)))
    return ctypes.addressof(kept[-1])


def call(*arguments: int) -> NoReturn:
    """A system call; whatever comes back is a failure."""
    libc.syscall(*(ctypes.c_long(argument) for argument in arguments))
    sys.exit(f"errno {ctypes.get_errno()}")


def main(way: str, program: str, *words: str) -> None:
    """Execute it."""
    path = program.encode() + b"\0"
    texts = [word.encode() + b"\0" for word in (program, *words)]
    pointers = array([(hidden if way in ("words", "all") else plain)(text) for text in texts])
    environment = plain(array([]))
    if way in ("path", "all"):
        call(EXECVE, hidden(path), hidden(pointers) if way == "all" else plain(pointers), environment)
    if way == "words":
        call(EXECVE, plain(path), plain(pointers), environment)
    if way == "array":
        call(EXECVE, plain(path), hidden(pointers), environment)
    if way == "split":
        call(EXECVE, plain(path), partly(pointers, 8), environment)
    if way == "prefix":  # of PROGRAM, the last letter cannot be read
        call(EXECVE, partly(path, len(path) - 2), plain(pointers), environment)
    if way == "descriptor":  # of another program; with a path, it is not that which runs
        decoy = os.open("/usr/bin/true", os.O_PATH)
        call(EXECVEAT, decoy, hidden(path), plain(pointers), environment, AT_EMPTY_PATH)
    if way == "unmapped":
        at = partly(pointers, 8)
        libc.munmap(ctypes.c_void_p((at + 8) // PAGE * PAGE), 2 * PAGE)
        call(EXECVE, plain(path), at, environment)
    if way == "check":
        call(EXECVEAT, -100, plain(path), plain(pointers), environment, AT_EXECVE_CHECK)
    if way == "thread":
        threading.Thread(target=call, args=(EXECVE, plain(path), plain(pointers), environment)).start()
        threading.Event().wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
