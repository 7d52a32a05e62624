"""What runs inside of a container: the embedded sandbox behind pipes, a Unix socket or a TCP port. Standard library alone.

    python3 -m sandbox.runner --stdio                                   one connection over standard input and output
    python3 -m sandbox.runner --listen unix:/run/sandbox/{host}.sock    a socket for its owner and group; {host} is this machine's name
    python3 -m sandbox.runner --listen tcp:0.0.0.0:9000                 needs --token-file or SANDBOX_TOKEN
    python3 -m sandbox.runner --check unix:/run/sandbox/{host}.sock     exit code 0 where a runner there shakes hands
    python3 -m sandbox.runner --prepare                                 fill the cache of compiled headers, when an image is built

It ends when its service does: with the pipe, or after some seconds without a word over it. A job whose connection ends is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable

from sandbox import framing, languages
from sandbox.framing import Ready
from sandbox.grants import describe_grants
from sandbox.interface import SandboxError
from sandbox.link import Refused, introduce
from sandbox.link import stream as client_stream
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from sandbox.namespaces.prepare import prepare
from sandbox.pipes import connect_pipes
from sandbox.serving import GREETING, Runner
from sandbox.streams import Gone, Stream

PIPE_SILENCE_S = 5.0  # after which a container whose engine or service is gone ends by itself
_SOCKET_SILENCE_S = 20.0
_CHECK_S = 10.0
_LOOK_S = 2.0  # how often a runner looks whether its socket is still there: others may write that folder, too


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sandbox.runner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--stdio", action="store_true")
    what.add_argument("--listen", metavar="ADDRESS")
    what.add_argument("--check", metavar="ADDRESS")
    what.add_argument("--prepare", action="store_true")
    parser.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)), help="programs at the same time (default: cores)")
    parser.add_argument("--first-core", type=int, default=0, help="the core of the first slot")
    parser.add_argument("--python", default="python3", help="interpreter of candidates' programs")
    parser.add_argument("--packages", help="folder of packages that they may import")
    parser.add_argument("--cpp-standard", default="gnu++20", choices=("gnu++20", "c++20"))
    parser.add_argument("--cache", help="folder of compiled headers")
    parser.add_argument("--max-memory-bytes", type=int, default=4_294_967_296)
    parser.add_argument(
        "--cgroup", metavar="FOLDER", help="folder delegated to this user: each program gets a cgroup in there, or none runs"
    )
    parser.add_argument("--strict", action="store_true", help="refuse to run without a cgroup for each program")
    parser.add_argument("--drain-s", type=float, default=30.0, help="longest time that a socket's services are served after SIGTERM")
    parser.add_argument("--token-file", help="file whose first line is the token (default: the environment's SANDBOX_TOKEN)")
    return parser.parse_args(arguments)


def read_token(path: str | None) -> str:
    """The token of the file, or of the environment, which it leaves; empty where there is none. Raises ValueError, OSError."""
    token = os.environ.pop("SANDBOX_TOKEN", "")
    if path is not None:
        with open(path, encoding="utf-8") as file:
            token = file.readline(framing.TOKEN_BYTES + 2).rstrip("\r\n")
        if not token:
            raise ValueError(f"{path} holds no token")
    if len(token.encode()) > framing.TOKEN_BYTES:
        raise ValueError(f"a token has at most {framing.TOKEN_BYTES} bytes")
    return token


def tool_versions(python: str, cpp_standard: str) -> dict[str, str]:
    """What runs and compiles programs here, by name."""
    found = {}
    version = subprocess.run([python, "-I", "-S", "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    found["cpp_standard"] = cpp_standard
    found["program_python"] = version.strip().removeprefix("Python ")
    compiler = languages.find_compiler()
    if compiler is not None:
        found["g++"] = languages.compiler_version(compiler)
    return found


async def serve(args: argparse.Namespace, token: str) -> int:
    """Start the sandbox and serve until told to stop; the exit code."""
    config = NamespacesConfig(
        slots=args.slots, cgroup=args.cgroup, python=args.python, packages=args.packages, strict=args.strict,
        cpp_standard=args.cpp_standard, cache_dir=args.cache, max_memory_bytes=args.max_memory_bytes, first_core=args.first_core,
    )  # fmt: skip
    sandbox = NamespacesSandbox(config)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await sandbox.start()
        tools = await asyncio.to_thread(tool_versions, args.python, args.cpp_standard)
        runner = Runner(sandbox, token, Ready(sandbox.slots, sandbox.languages, {**sandbox.describe(), "grants": describe_grants()}, tools))
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(runner.close)
            await (_serve_pipes(runner, stopped) if args.stdio else _serve_socket(runner, args.listen, stopped, undo))
            if not args.stdio:
                await runner.drain(args.drain_s)
    finally:
        await sandbox.close()
    return 0


async def _serve_pipes(runner: Runner, stopped: asyncio.Event) -> None:
    """Serve the one service at the other end of standard input and output, until it is gone."""
    stream = runner.connection(PIPE_SILENCE_S)
    await connect_pipes(stream)
    await _first(stream.ended, stopped.wait())


async def _serve_socket(runner: Runner, address: str, stopped: asyncio.Event, undo: contextlib.AsyncExitStack) -> None:
    kind, where = read_address(address)
    if kind == "tcp":
        host, _, port = where.rpartition(":")
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: runner.connection(_SOCKET_SILENCE_S), host.strip("[]"), int(port))
    else:
        server = await _listen(runner, where)
        undo.callback(_remove, where)
    undo.callback(lambda: server.close())
    _log(f"runner: {runner.sandbox.slots} slots at {address}: {', '.join(sorted(runner.sandbox.languages))}")
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await stopped.wait()
        if kind == "unix" and not stopped.is_set() and not os.path.exists(where):
            _log(f"runner: {where} was removed: listening anew")
            server.close()
            server = await _listen(runner, where)


async def _listen(runner: Runner, where: str) -> asyncio.Server:
    """Listen at a path, which nobody sees before it can be connected to: others would take it for a dead runner's. Raises OSError."""
    fresh = f"{where}.{os.getpid()}"
    mask = os.umask(0o117)  # for its owner and group
    try:
        sweep_sockets(os.path.dirname(where))
        server = await asyncio.get_running_loop().create_unix_server(lambda: runner.connection(_SOCKET_SILENCE_S), fresh)
        os.rename(fresh, where)
    except OSError as error:
        raise OSError(f"cannot listen at {where} ({error}): mount a volume there that this user may write") from error
    finally:
        os.umask(mask)
    return server


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def _first(*things: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(thing) for thing in things]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def read_address(address: str) -> tuple[str, str]:
    """(`unix`, path) or (`tcp`, host:port). Raises ValueError."""
    kind, _, where = address.partition(":")
    if kind == "unix" and where.startswith("/"):
        return kind, where.replace("{host}", socket.gethostname())
    if kind == "tcp" and where.rpartition(":")[0] and where.rpartition(":")[2].isdigit():
        return kind, where
    raise ValueError(f"an address is unix:/path or tcp:host:port, not {address}")


def sweep_sockets(folder: str) -> int:
    """Remove the sockets of runners that are gone; how many there were."""
    count = 0
    for name in os.listdir(folder):
        if not name.endswith(".sock"):
            continue
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(1)
            try:
                probe.connect(os.path.join(folder, name))
            except ConnectionRefusedError:
                os.unlink(os.path.join(folder, name))
                count += 1
    return count


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


async def refuse(args: argparse.Namespace, why: str) -> int:
    """Tell the service at the other end of the pipes why nothing runs here, or whoever reads our log; the exit code."""
    _log(f"runner: {why}")
    if args.stdio:
        stream = Stream(GREETING, PIPE_SILENCE_S)
        await connect_pipes(stream)
        with contextlib.suppress(Gone, TimeoutError):
            async with asyncio.timeout(PIPE_SILENCE_S):
                await stream.receive()
                await stream.finish(framing.refused(why))
                await stream.ended
    return 1


async def check(address: str, token: str) -> int:
    """The exit code: 0 where a runner at the address shakes hands."""
    loop = asyncio.get_running_loop()
    kind, where = read_address(address)
    stream = client_stream()
    host, _, port = where.rpartition(":")
    try:
        if kind == "unix":
            await loop.create_unix_connection(lambda: stream, where)
        else:
            await loop.create_connection(lambda: stream, host.strip("[]"), int(port))
        await introduce(stream, token, _CHECK_S)
    except (OSError, Gone, Refused) as error:
        _log(f"runner: {address}: {error}")
        return 1
    finally:
        stream.fail("checked")
    return 0


async def run(args: argparse.Namespace) -> int:
    """Do what the command line says; the exit code."""
    if args.prepare:
        return await prepare(args.cpp_standard, args.cache)
    try:
        token = read_token(args.token_file)
        if args.check is not None:
            return await check(args.check, token)
        if args.listen is not None and read_address(args.listen)[0] == "tcp" and not token:
            raise ValueError("a TCP port needs a token: set --token-file or SANDBOX_TOKEN, on both sides the same")
        return await serve(args, token)
    except (ValueError, OSError) as error:
        return await refuse(args, str(error))
    except SandboxError as error:
        return await refuse(args, str(error))


def main() -> None:
    """The command."""
    sys.exit(asyncio.run(run(parse(sys.argv[1:]))))


if __name__ == "__main__":
    main()
