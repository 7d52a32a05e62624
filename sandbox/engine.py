"""The container engine: make, attach, start and remove runners' containers; find what dead services left. Blocking: see `Engine.call`.

A container is made with the least that boxes need (`THREATS.md` says why): an ordinary user, no network, no capability, no new
privileges, a read-only root, our own seccomp profile, bounded memory, processes and CPU. Its `/proc` is not masked, since a user
namespace may mount its own only where it sees a whole one. The engine's socket never enters a container.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from sandbox.interface import SandboxUnavailable
from sandbox.profile import container_profile

LABEL = "org.reward-service.sandbox"
OWNER_LABEL = f"{LABEL}.owner"
USER = "10001:10000"
_TIMEOUT_S = 60
_RUNNER_BYTES = 2_147_483_648  # beyond a program's own limit: warm processes, a compiler, collected output
_PROCESSES = 1024
_CORES_PER_SLOT = 2
_YOUNG_S = 60.0
_CGROUP = "/run/cgroup"  # in the container
_HOST_CGROUPS = "/sys/fs/cgroup"
_TMP = "rw,nosuid,nodev,noexec,size=16m,nr_inodes=1024,mode=1777"


P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """Settings of the docker backend. A container is replaced after so many `programs`; `runtime` is the engine's default where None.

    `cgroup` is the path of a cgroup on the engine's machine that belongs to the runners' user: programs get cgroups of their own in there.
    """

    image: str = "reward-sandbox"
    slots: int = 2
    runtime: str | None = None
    cgroup: str | None = None
    programs: int = 2000
    host: str = "unix:///var/run/docker.sock"
    strict: bool = False
    cpp_standard: str = "gnu++20"
    max_memory_bytes: int = 4_294_967_296


class Engine:
    """The Docker SDK's client, and what we ask of it."""

    def __init__(self, config: DockerConfig) -> None:
        self._config = config
        self._client: Any = None
        # Of its own: an engine that hangs must not hold up what else this process does in threads.
        self._threads = concurrent.futures.ThreadPoolExecutor(2 * config.slots + 2, thread_name_prefix="engine")
        self.languages: frozenset[str] = frozenset()  # of all containers so far
        self._cores = 1
        self._security: tuple[str, ...] = ()
        self._cgroup_version = "1"

    async def call(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do one of the things below in a thread. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(act, *args, **kwargs))

    def connect(self) -> None:
        """Reach the engine, look whether the image and the runtime are there, and sweep. Raises SandboxUnavailable."""
        try:
            import docker
        except ImportError as error:
            raise SandboxUnavailable("the Docker SDK is not installed: pip install 'reward-service[docker]'") from error
        with _explained(self._config):
            self._client = docker.APIClient(base_url=self._config.host, version="auto", timeout=_TIMEOUT_S)
            info = self._client.info()
            self._client.inspect_image(self._config.image)
            if self._config.runtime is not None and self._config.runtime not in (info.get("Runtimes") or {}):
                known = ", ".join(sorted(info.get("Runtimes") or {}))
                raise SandboxUnavailable(f"the engine has no runtime {self._config.runtime} (it has {known})")
            self._cores = int(info.get("NCPU") or 1)
            self._security = tuple(info.get("SecurityOptions") or ())
            self._cgroup_version = str(info.get("CgroupVersion") or "1")
            self.sweep()

    def create(self, number: int) -> str:
        """A container for slot `number`, not yet started; its id. Raises SandboxUnavailable."""
        config = self._config
        command = [
            "--stdio", "--slots", "1", "--first-core", str(number), "--cpp-standard", config.cpp_standard,
            "--max-memory-bytes", str(config.max_memory_bytes), *(["--strict"] if config.strict else []),
            *(["--cgroup", _CGROUP] if config.cgroup else []),
        ]  # fmt: skip
        with _explained(config):
            made = self._client.create_container(
                config.image,
                command,
                user=USER,
                hostname="sandbox",
                stdin_open=True,
                network_disabled=True,
                healthcheck={"test": ["NONE"]},
                labels={LABEL: "1", OWNER_LABEL: owner()},
                host_config=self._host_config(),
            )
        return str(made["Id"])

    def _host_config(self) -> Any:
        config = self._config
        memory = config.max_memory_bytes + _RUNNER_BYTES
        confined = any("apparmor" in option for option in self._security)
        security = ["no-new-privileges", f"seccomp={container_profile()}", *(["apparmor=unconfined"] if confined else [])]
        found = self._client.create_host_config(
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=security,
            mem_limit=memory,
            memswap_limit=memory,
            pids_limit=_PROCESSES,
            nano_cpus=min(_CORES_PER_SLOT, self._cores) * 1_000_000_000,
            tmpfs={"/tmp": _TMP},
            ipc_mode="private",
            shm_size="1m",
            log_config={"Type": "none", "Config": {}},
            auto_remove=True,
            ulimits=[{"Name": "core", "Soft": 1, "Hard": 1}],
            runtime=config.runtime,
            **(cgroup_options(config.cgroup, self._cgroup_version) if config.cgroup else {}),
        )
        found["MaskedPaths"], found["ReadonlyPaths"] = [], []
        return found

    def attach(self, container: str) -> socket.socket:
        """The container's standard streams as one connection; closing it closes its standard input. Raises SandboxUnavailable."""
        with _explained(self._config):
            parameters = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            raw = self._client.attach_socket(container, params=parameters)
            ours = socket.socket(fileno=os.dup(raw.fileno()))
            raw._response.close()
        ours.setblocking(False)
        return ours

    def start(self, container: str) -> None:
        """Start it. Raises SandboxUnavailable."""
        with _explained(self._config):
            self._client.start(container)

    def remove(self, container: str) -> None:
        """Kill and remove it, whatever state it is in. Raises SandboxUnavailable where the engine does not answer."""
        import docker

        with _explained(self._config):
            try:
                self._client.remove_container(container, force=True, v=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if error.response is None or error.response.status_code != 409:  # it is being removed already
                    raise

    def sweep(self) -> int:
        """Remove the containers that services which are gone left; how many there were. Raises SandboxUnavailable."""
        count = 0
        with _explained(self._config):
            for found in self._client.containers(all=True, filters={"label": LABEL}):
                if is_orphan(str(found.get("State")), found.get("Labels") or {}, float(found.get("Created") or 0), time.time()):
                    self.remove(str(found["Id"]))
                    count += 1
        return count

    def close(self) -> None:
        """Let go of the engine."""
        if self._client is not None:
            self._client.close()


def cgroup_options(name: str, version: str) -> dict[str, Any]:
    """What of a host configuration puts a delegated cgroup where the runner looks for it; the engine refuses where it is not there.

    In version 2 whoever moves a process must own the cgroup above both places, so that the container itself is started in there.
    """
    import docker

    if version == "1":
        places = [(f"{_CGROUP}/{controller}", f"{_HOST_CGROUPS}/{controller}{name}") for controller in ("memory", "cpuacct")]
        return {"mounts": [docker.types.Mount(target, source, type="bind") for target, source in places]}
    mounts = [docker.types.Mount(_CGROUP, f"{_HOST_CGROUPS}{name}", type="bind")]
    parent = name.removeprefix("/") if name.endswith(".slice") else name  # systemd's names of slices have no slash
    return {"mounts": mounts, "cgroup_parent": parent, "cgroupns": "host"}


@contextlib.contextmanager
def _explained(config: DockerConfig) -> Iterator[None]:
    """What goes wrong with the engine, in words that say what to do."""
    import docker
    import requests

    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise SandboxUnavailable(f"no image {config.image}: docker build -f sandbox/Dockerfile -t {config.image} .") from error
    except docker.errors.APIError as error:
        said = str(error.explanation or error)[:500]
        hint = "; deploy/delegate-cgroup makes it, again after each boot" if f"does not exist: {_HOST_CGROUPS}" in said else ""
        raise SandboxUnavailable(f"the engine refuses: {said}{hint}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise SandboxUnavailable(f"no container engine answers at {config.host}: {str(error)[:300]}") from error


def owner() -> str:
    """Who this process is, for the label of its containers: boot, pid namespace, pid and start time tell whether it still lives."""
    pid = os.getpid()
    found = {"boot": _boot(), "namespace": os.readlink("/proc/self/ns/pid"), "pid": pid, "started": _started(pid)}
    return json.dumps(found, sort_keys=True)


def is_orphan(state: str, labels: dict[str, str], created: float, now: float) -> bool:
    """Whether nobody needs a container any more: its owner is known to be dead, or it does not run and is not about to.

    One that runs and whose owner cannot be looked up (another machine, another pid namespace) ends by itself when its owner does.
    """
    gone = owner_is_gone(labels.get(OWNER_LABEL, ""))
    if gone is not None:
        return gone
    return state not in ("running", "restarting", "removing") and now - created > _YOUNG_S


def owner_is_gone(label: str) -> bool | None:
    """Whether the owner is dead; None where it cannot be known from here."""
    try:
        found = json.loads(label)
        boot, namespace, pid, started = (found[name] for name in ("boot", "namespace", "pid", "started"))
    except (ValueError, TypeError, KeyError):
        return None
    if namespace != os.readlink("/proc/self/ns/pid") or type(pid) is not int:
        return None
    return bool(boot != _boot() or _started(pid) != started)


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _started(pid: int) -> int:
    """The start time of a process in the kernel's ticks, 0 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
