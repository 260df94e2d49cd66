"""Settings: flags before variables before defaults, and a clear sentence for what is wrong."""

from __future__ import annotations

import pytest

from glm_operator.plan.observed import Defaults
from glm_operator.runtime.main import identity, lease_settings
from glm_operator.runtime.settings import InvalidSettingError, Settings


def test_without_anything_the_defaults_are_the_planners() -> None:
    settings = Settings.load({}, {})
    assert settings == Settings()
    assert settings.defaults() == Defaults()


def test_variables_are_read_in_the_type_of_their_setting() -> None:
    settings = Settings.load(
        {
            "GLM_OPERATOR_WATCH_NAMESPACES": "ml, vision,",
            "GLM_OPERATOR_METRICS_PORT": "9191",
            "GLM_OPERATOR_SCALE_SECONDS": "2",
            "GLM_OPERATOR_ENGINE_IMAGE": "engine:1",
        },
        {},
    )
    assert settings.watch_namespaces == ("ml", "vision")
    assert settings.metrics_port == 9191
    assert settings.scale_seconds == 2.0
    assert settings.defaults().engine_image == "engine:1"


def test_a_flag_wins_over_a_variable_and_an_empty_variable_is_none() -> None:
    environ = {"GLM_OPERATOR_LOG_LEVEL": "error", "GLM_OPERATOR_WATCH_NAMESPACES": ""}
    settings = Settings.load(environ, {"log_level": "debug", "namespace": None})
    assert settings.log_level == "debug"
    assert settings.watch_namespaces == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "loud"),
        ("HEALTH_PORT", "70000"),
        ("METRICS_PORT", "many"),
        ("WORKERS", "0"),
        ("RESYNC_SECONDS", "0"),
        ("SCALE_SECONDS", "0.1"),
        ("LEASE_SECONDS", "1"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_a_way_out(name: str, value: str) -> None:
    with pytest.raises(InvalidSettingError, match=rf"GLM_OPERATOR_{name} is .*{value}.*: use "):
        Settings.load({f"GLM_OPERATOR_{name}": value}, {})


def test_the_pods_name_is_the_identity_and_else_every_process_has_its_own() -> None:
    assert identity(Settings(pod_name="glm-operator-0")) == "glm-operator-0"
    assert identity(Settings()) != identity(Settings())


def test_we_stop_writing_well_before_a_successor_may_begin() -> None:
    lease = lease_settings(Settings(), "me")
    assert lease.deadline_seconds == 10.0
    assert lease.retry_seconds * 2 < lease.deadline_seconds < lease.duration_seconds
