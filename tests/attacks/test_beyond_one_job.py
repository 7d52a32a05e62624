"""Attacks that need more than one job: programs that run at the same time, jobs that are given up, what a load leaves with the service."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os

import pytest

from sandbox.interface import Job, RunResult, Sandbox, Status, TestInput
from sandbox.namespaces.backend import NamespacesSandbox
from tests.attacks.attack import SMALL
from tests.attacks.processes import candidates

pytestmark = [pytest.mark.attacks, pytest.mark.isolation, pytest.mark.asyncio(loop_scope="session")]
x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the probes know the system calls of x86-64")

_SHARED_PAGE = """
import ctypes, mmap, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, os.open(ctypes.__file__, os.O_RDONLY), 0)
class Time(ctypes.Structure): _fields_ = [('s', ctypes.c_long), ('ns', ctypes.c_long)]
"""
_WAITS = """
value = ctypes.c_uint.from_address(page).value
libc.syscall(202, ctypes.c_void_p(page), 0, value, ctypes.byref(Time(1, 0)), None, 0)
"""
_WAKES = """
for _ in range(100):
    if libc.syscall(202, ctypes.c_void_p(page), 1, 1, None, None, 0) > 0: print('escaped: woke another program')
    time.sleep(0.01)
"""
_LISTENS = """
import socket, time
s = socket.socket(socket.AF_UNIX)
s.bind('\\0crowd')
s.listen()
open('/tmp/crowd', 'w').write('x')
time.sleep(1)
"""
_LOOKS = """
import os, socket, time
for _ in range(50):
    try: socket.socket(socket.AF_UNIX).connect('\\0crowd')
    except OSError: time.sleep(0.01)
    else: print('escaped: connected')
if os.path.exists('/tmp/crowd'): print('escaped: file')
if len([n for n in os.listdir('/proc') if n.isdigit()]) != 1: print('escaped: processes')
"""
_DAEMONS = """
import os, signal, time
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
time.sleep(60)
"""


async def _run(sandbox: Sandbox, source: str) -> list[RunResult]:
    limits = dataclasses.replace(SMALL, cpu_s=1)
    async with contextlib.aclosing(sandbox.run(Job("python", source, (TestInput(b""),), limits))) as results:
        return [result async for result in results]


async def _together(sandbox: Sandbox, *sources: str) -> None:
    for (result,) in await asyncio.gather(*(_run(sandbox, source) for source in sources)):
        assert result.status is Status.FINISHED, result.stderr
        assert b"escaped" not in result.stdout, result.stdout


async def test_programs_that_run_at_once_do_not_see_each_other(sandbox: Sandbox) -> None:
    await _together(sandbox, _LISTENS, _LOOKS)


@x86_64
@pytest.mark.xfail(
    strict=True, reason="a futex on a page of a shared runtime file is one for all boxes: a channel between programs that run at once"
)
async def test_programs_that_run_at_once_cannot_signal_by_shared_pages(sandbox: Sandbox) -> None:
    await _together(sandbox, _SHARED_PAGE + _WAITS, _SHARED_PAGE + _WAKES)


async def test_a_job_that_is_given_up_leaves_nothing(sandbox: Sandbox) -> None:
    task = asyncio.create_task(_run(sandbox, _DAEMONS))
    async with asyncio.timeout(10):
        while len(candidates(sandbox)) < 21:  # the program and its daemons
            await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert candidates(sandbox) == set()


@pytest.mark.embedded
async def test_warnings_of_sources_are_not_collected_for_ever(sandbox: NamespacesSandbox) -> None:
    zygote = sandbox._zygotes["python"]
    before = os.fstat(zygote._diagnostics).st_size
    await _run(sandbox, "1 is 1\n" * 1000)
    assert os.fstat(zygote._diagnostics).st_size - before < 4096
