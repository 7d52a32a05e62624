from __future__ import annotations

import os
from pathlib import Path

import pytest

from reward_service.settings import Settings, environment_name, is_loopback, settings_table, unknown_names

DOCS = Path(__file__).parents[1] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("REWARD_"):
            monkeypatch.delenv(name)


def test_the_documentation_holds_the_table_of_the_code() -> None:
    assert settings_table() in DOCS.read_text(), "docs/settings.md must hold what reward_service.settings.settings_table() returns"


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_defaults_are_safe() -> None:
    settings = Settings()
    assert (settings.host, settings.key, settings.sandbox) == ("127.0.0.1", None, "namespaces")
    assert (settings.max_cpu_s, settings.max_memory_bytes, settings.max_compile_s) == (60, 4 << 30, 60)
    assert settings.languages == ("python", "cpp")
    assert settings.workers == settings.sandbox_slots == len(os.sched_getaffinity(0))


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_PORT", "9")
    monkeypatch.setenv("reward_languages", "python, cpp ,")
    monkeypatch.setenv("REWARD_STRICT", "true")
    settings = Settings()
    assert (settings.port, settings.languages, settings.strict) == (9, ("python", "cpp"), True)
    assert Settings(port=10).port == 10


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("REWARD_PRT", "1", "REWARD_PRT"),
        ("REWARD_PORT", "70000", "port"),
        ("REWARD_PORT", "x", "port"),
        ("REWARD_MATH_CPU_S", "nan", "math_cpu_s"),
        ("REWARD_SANDBOX", "none", "sandbox"),
        ("REWARD_LANGUAGES", "", "languages"),
        ("REWARD_HOST", "0.0.0.0", "loopback"),
        ("REWARD_HOST", "example.org", "loopback"),
        ("REWARD_PUBLISHED_HOST", "0.0.0.0", "loopback"),
        ("REWARD_SANDBOX", "remote", "runners"),
        ("REWARD_DOCKER_PROGRAMS", "0", "docker_programs"),
        ("REWARD_KEY", "", "key"),
        ("REWARD_KEY", "two words", "key"),
        ("REWARD_MAX_HELD_BYTES", "2048", "max_held_bytes"),
        ("REWARD_MAX_DEADLINE_S", "30", "default_deadline_s"),
        ("REWARD_MAX_DEADLINE_S", "4000", "max_deadline_s"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said):
        Settings()


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="prt"):
        Settings(prt=1)  # type: ignore[call-arg]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


def test_a_stray_env_file_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("REWARD_PORT=9\n")
    monkeypatch.chdir(tmp_path)
    assert Settings().port == 8000


def test_in_a_container_it_counts_where_the_port_is_published() -> None:
    assert Settings(host="0.0.0.0", published_host="127.0.0.1").key is None
    with pytest.raises(ValueError, match="loopback"):
        Settings(host="127.0.0.1", published_host="192.0.2.1")


def test_with_a_key_any_host_may_be_listened_on() -> None:
    assert Settings(host="0.0.0.0", key="k").host == "0.0.0.0"


def test_the_key_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s3cret" not in repr(Settings(key="s3cret"))
    monkeypatch.setenv("REWARD_KEY", "s3cret with blanks")
    with pytest.raises(ValueError, match="key") as refused:
        Settings()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("a", False),
    ],
)
def test_which_hosts_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_names() -> None:
    assert environment_name("max_rollouts") == "REWARD_MAX_ROLLOUTS"
    assert unknown_names({"PATH": "", "REWARD_PORT": "", "reward_typo": "", "REWARD_X": ""}) == ["REWARD_X", "reward_typo"]
