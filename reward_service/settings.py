"""Every knob of the service, once: default, unit, range, what it is for, and its environment name (`REWARD_` and the name in capitals)."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from reward_service.scoring.equivalence.conventions import read_conventions

ENVIRONMENT_PREFIX = "REWARD_"
GIB = 1 << 30
MIB = 1 << 20


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _base_interpreter() -> str:
    """The interpreter beneath the virtual environment: candidates' programs never see the service's own packages."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def _runtime_packages() -> str | None:
    """The packages that `make setup` installs for candidates' programs: in or beside the virtual environment, if there."""
    for folder in (Path(sys.prefix), Path(sys.prefix).parent):
        if (folder / ".runtime" / "python").is_dir():
            return str(folder / ".runtime" / "python")
    return None


def _testset_folder() -> str:
    """In the user's cache folder: clients upload again what is gone."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "reward-service", "testsets")


def _split_names(value: object) -> object:
    """`python,cpp` of an environment variable as a tuple; anything else as it is."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)]


class _KnownNamesOnly(EnvSettingsSource):
    """Reads the environment and refuses `REWARD_` names that are no setting: a misspelt limit must not be a default unnoticed."""

    def __call__(self) -> dict[str, Any]:
        unknown = unknown_names(os.environ)
        if unknown:
            raise ValueError(f"unknown settings in the environment: {', '.join(unknown)} (docs/settings.md lists the known ones)")
        return super().__call__()


class Settings(BaseSettings):
    """The service's settings: from arguments, else the environment, else the defaults.

    Raises:
        ValueError: the operator's fault: unknown name, wrong type, out of range, or a host that is not loopback without a key
            (pydantic's ValidationError is one).
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Without `key` and `keys_file` it must be a loopback address.",
        json_schema_extra={"unit": "address"},
    )
    published_host: str | None = Field(
        None,
        min_length=1,
        description="In a container: the address that its port is published on. Without `key` that one must be loopback instead of `host`.",
        json_schema_extra={"unit": "address"},
    )
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")
    key: SecretStr | None = Field(
        None, description="The key that clients send as `Authorization: Bearer KEY`. Without one the service answers on loopback only."
    )
    keys_file: str | None = Field(
        None,
        min_length=1,
        description="JSON file of several keys with weight, quota and expiry (docs/operations.md), read again when it changes.",
        json_schema_extra={"unit": "path"},
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least severe log lines that are written.")
    traces_endpoint: str | None = Field(
        None,
        min_length=1,
        description="Where OpenTelemetry traces go, OTLP over HTTP (`http://collector:4318/v1/traces`); needs `reward-service[otel]`.",
        json_schema_extra={"unit": "address"},
    )

    workers: int = Field(
        default_factory=_cores,
        ge=1,
        le=512,
        description="Worker processes for math and language.",
        json_schema_extra={"shown": "number of cores"},
    )
    worker_memory_bytes: int = Field(
        GIB, ge=256 * MIB, le=64 * GIB, description="Address space of one worker process.", json_schema_extra={"unit": "bytes"}
    )
    math_cpu_s: float = Field(
        2.0, ge=0.05, le=60, description="CPU time of one math comparison; what exceeds it is incorrect.", json_schema_extra={"unit": "s"}
    )
    math_conventions: Names = Field(
        (),
        description="Choices of docs/math-conventions.md, as `rounding=digits`. In the environment: separated by commas.",
        json_schema_extra={"shown": "the defaults stated there"},
    )
    language_model: str | None = Field(
        None,
        min_length=1,
        description="Path of the fastText model `lid.176.ftz`; unset: the one that ships with the package.",
        json_schema_extra={"unit": "path"},
    )
    language_second_opinion: bool = Field(
        False,
        description="Whether the refined language rule asks lingua, too, about parts under 60 letters; needs `reward-service[lingua]`.",
    )

    sandbox: Literal["namespaces", "docker", "remote"] = Field(
        "namespaces", description="Backend that runs candidates' programs. None of them is without isolation."
    )
    runners: Names = Field(
        (),
        description="For `remote`: where runners listen, `unix:/folder/*.sock` or `tcp:name:port`. Separated by commas.",
        json_schema_extra={"shown": "none"},
    )
    runner_token: SecretStr | None = Field(
        None, min_length=1, description="For `remote`: what service and runners show each other; the runners' `SANDBOX_TOKEN`."
    )
    docker_host: str = Field(
        "unix:///var/run/docker.sock",
        min_length=1,
        description="For `docker`: where the engine listens.",
        json_schema_extra={"unit": "address"},
    )
    docker_image: str = Field("reward-sandbox", min_length=1, description="For `docker`: image of the sandbox runner.")
    docker_runtime: str | None = Field(
        None, min_length=1, description="For `docker`: runtime of the containers, such as `runsc`; unset: the engine's default."
    )
    docker_cgroup: str | None = Field(
        None,
        pattern=r"^(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$",
        description="For `docker`: the cgroup that `deploy/delegate-cgroup` made on the engine's machine, such as `/reward-runners`: "
        "memory of programs is then bounded by the kernel.",
        json_schema_extra={"unit": "path"},
    )
    docker_programs: int = Field(
        2000, ge=1, le=1_000_000_000, description="For `docker`: programs that a container serves before it is replaced."
    )
    sandbox_slots: int = Field(
        default_factory=_cores,
        ge=1,
        le=512,
        description="Candidates' programs that run at the same time.",
        json_schema_extra={"shown": "number of cores"},
    )
    strict: bool = Field(False, description="Refuse code tasks where memory limits of the job tree rest on anything weaker than a cgroup.")
    languages: Names = Field(
        ("python", "cpp"),
        min_length=1,
        description="Programming languages allowed where a code reference names none. In the environment: separated by commas.",
    )
    python: str = Field(
        default_factory=_base_interpreter,
        min_length=1,
        description="Interpreter of candidates' Python programs.",
        json_schema_extra={"unit": "path", "shown": "the interpreter beneath the virtual environment"},
    )
    python_packages: str | None = Field(
        default_factory=_runtime_packages,
        min_length=1,
        description="Folder of packages that candidates' Python programs may import (numpy and others).",
        json_schema_extra={"unit": "path", "shown": "`.runtime/python` in or beside the virtual environment, if there"},
    )
    cpp_standard: Literal["gnu++20", "c++20"] = Field("gnu++20", description="`-std=` of candidates' C++ programs.")
    max_cpu_s: float = Field(
        60.0, gt=0, le=3600, description="Greatest `limits.cpu_s` that a reference may ask for.", json_schema_extra={"unit": "s"}
    )
    max_memory_bytes: int = Field(
        4 * GIB,
        ge=16 * MIB,
        le=1024 * GIB,
        description="Greatest `limits.memory_bytes` that a reference may ask for.",
        json_schema_extra={"unit": "bytes"},
    )
    max_compile_s: float = Field(
        60.0, gt=0, le=3600, description="Greatest `limits.compile_s` that a reference may ask for.", json_schema_extra={"unit": "s"}
    )

    verdict_memory_bytes: int = Field(
        128 * MIB,
        ge=0,
        le=64 * GIB,
        description="Memory of verdicts of programs on tests, so that none runs twice; about 300 bytes each, 0 for none.",
        json_schema_extra={"unit": "bytes"},
    )
    binaries_disk_bytes: int = Field(
        2 * GIB,
        ge=0,
        le=1024 * GIB,
        description="Compiled programs kept on disk, over restarts; the least recently used leave first, 0 for none.",
        json_schema_extra={"unit": "bytes"},
    )

    max_body_bytes: int = Field(
        256 * MIB, ge=1024, le=4 * GIB, description="Greatest body of a request, after decompression.", json_schema_extra={"unit": "bytes"}
    )
    max_values: int = Field(
        4_000_000,
        ge=1000,
        le=1_000_000_000,
        description="Texts, numbers, arrays and objects in one body, together; about 150 bytes of memory each. Beyond: 413.",
    )
    max_held_bytes: int = Field(
        GIB,
        ge=1024,
        le=1024 * GIB,
        description="Bodies of all requests in flight together; at least `max_body_bytes`. Beyond: 429.",
        json_schema_extra={"unit": "bytes"},
    )
    max_requests: int = Field(16_384, ge=1, le=1_000_000, description="Requests in flight; beyond: 429.")
    max_rollouts: int = Field(
        65_536, ge=1, le=10_000_000, description="Rollouts in flight; beyond: 429. A single request with more of them: 413."
    )
    max_queue_s: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="Estimated seconds of work, per worker process and per sandbox slot, that may wait; beyond: 429.",
        json_schema_extra={"unit": "s"},
    )
    answer_memory_bytes: int = Field(
        256 * MIB,
        ge=0,
        le=64 * GIB,
        description="Answers to requests with a `request_id`, kept for ten minutes for repetitions; the oldest leave first.",
        json_schema_extra={"unit": "bytes"},
    )
    testset_folder: str = Field(
        default_factory=_testset_folder,
        min_length=1,
        description="Folder of uploaded test sets; several services may share it.",
        json_schema_extra={"unit": "path", "shown": "`reward-service/testsets` in the user's cache folder"},
    )
    testset_disk_bytes: int = Field(
        10 * GIB,
        ge=1024,
        le=1024 * 1024 * GIB,
        description="Bytes of uploaded test sets on disk, compressed; the least recently used leave first. One that does not fit: 507.",
        json_schema_extra={"unit": "bytes"},
    )
    testset_memory_bytes: int = Field(
        GIB,
        ge=1024,
        le=1024 * GIB,
        description="Bytes of parsed test sets in memory. In use beyond: 429; a single request beyond: 413.",
        json_schema_extra={"unit": "bytes"},
    )
    max_completion_characters: int = Field(
        16 * MIB, ge=1024, le=4 * GIB, description="Characters of one completion; beyond: 413, the pointer names it."
    )
    max_tests: int = Field(20_000, ge=1, le=10_000_000, description="Test cases of one reference.")
    body_wait_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Longest pause of a client that sends its body; then 408.",
        json_schema_extra={"unit": "s"},
    )
    default_deadline_s: float = Field(
        600.0,
        gt=0,
        le=3600,
        description="`deadline_s` of requests that state none; at most `max_deadline_s`.",
        json_schema_extra={"unit": "s"},
    )
    max_deadline_s: float = Field(3600.0, gt=0, le=3600, description="Greatest `deadline_s` of a request.", json_schema_extra={"unit": "s"})
    drain_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Longest time that accepted requests may take to finish after SIGTERM; what is left is `unscored: cancelled`.",
        json_schema_extra={"unit": "s"},
    )

    @field_validator("math_conventions")
    @classmethod
    def _conventions_are_known(cls, written: tuple[str, ...]) -> tuple[str, ...]:
        read_conventions(written)
        return written

    @field_validator("key")
    @classmethod
    def _key_fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        text = "" if key is None else key.get_secret_value()
        if key is not None and not (text.isascii() and text.isprintable() and text and " " not in text):
            raise ValueError("a key is one or more visible ASCII characters without spaces")
        return key

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.key is None and self.keys_file is None and not is_loopback(self.published_host or self.host):
            raise ValueError(
                f"without a key the service listens on loopback only: set {ENVIRONMENT_PREFIX}KEY or {ENVIRONMENT_PREFIX}KEYS_FILE, "
                "or host to 127.0.0.1"
            )
        if self.sandbox == "remote" and not self.runners:
            raise ValueError(f"the remote sandbox needs the addresses of its runners: set {ENVIRONMENT_PREFIX}RUNNERS")
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError("max_held_bytes must be at least max_body_bytes")
        if self.default_deadline_s > self.max_deadline_s:
            raise ValueError("default_deadline_s must be at most max_deadline_s")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before the environment, and no other source: a stray `.env` file must not decide a reward."""
        return init_settings, _KnownNamesOnly(settings_cls)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; an unknown name counts as reachable from elsewhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def environment_name(field: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + field.upper()


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """The `REWARD_` names, in any case, that are no setting, sorted."""
    known = {environment_name(field) for field in Settings.model_fields}
    return sorted(name for name in environment if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() not in known)


def settings_table() -> str:
    """The table of `docs/settings.md`, in Markdown: a row per setting, in the order of the class."""
    head = "| Environment name | Default | Unit | Range | What it is for |\n|---|---|---|---|---|\n"
    rows = (
        f"| `{environment_name(name)}` | {_default(info)} | {_extra(info, 'unit')} | {_range(info)} | {info.description} |\n"
        for name, info in Settings.model_fields.items()
    )
    return head + "".join(rows)


def _extra(info: FieldInfo, name: str) -> str:
    extra = info.json_schema_extra
    return str(extra.get(name, "")) if isinstance(extra, dict) else ""


def _default(info: FieldInfo) -> str:
    shown = _extra(info, "shown")
    if shown:
        return shown
    if info.default is None:
        return "unset"
    value = ",".join(info.default) if isinstance(info.default, tuple) else info.default
    return f"`{value}`"


def _range(info: FieldInfo) -> str:
    arguments: Iterable[object] = getattr(info.annotation, "__args__", ())
    texts = [f"`{argument}`" for argument in arguments if isinstance(argument, str)]
    if texts:
        return ", ".join(texts)
    bounds = {"ge": "from ", "gt": "above ", "le": "to "}
    found = [f"{word}{getattr(part, bound)}" for part in info.metadata for bound, word in bounds.items() if hasattr(part, bound)]
    return " ".join(found)
