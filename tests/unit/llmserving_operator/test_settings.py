import pytest

from llmserving_operator.__main__ import main
from llmserving_operator.errors import SettingsError
from llmserving_operator.settings import PREFIX, Settings, TemplatePolicy, read_settings

IMAGE = {"LLMSERVING_OPERATOR_AGENT_IMAGE": "agent:1"}


def test_reads_every_kind_of_value() -> None:
    settings = read_settings(
        {
            **IMAGE,
            "LLMSERVING_OPERATOR_NAMESPACES": "a, b,",
            "LLMSERVING_OPERATOR_TEMPLATE_POLICY": "Unrestricted",
            "LLMSERVING_OPERATOR_POLL_SECONDS": "1.5",
            "LLMSERVING_OPERATOR_WORKERS": "3",
            "UNRELATED": "x",
        }
    )

    assert settings.namespaces == ("a", "b")
    assert settings.template_policy is TemplatePolicy.UNRESTRICTED
    assert (settings.poll_seconds, settings.workers) == (1.5, 3)


def test_no_namespaces_means_all_and_the_plugin_comes_from_the_agents_image() -> None:
    settings = read_settings({**IMAGE, "LLMSERVING_OPERATOR_NAMESPACES": "", "LLMSERVING_OPERATOR_PLUGIN_IMAGE": ""})

    assert settings.namespaces == ()
    assert settings.plugin_source == "agent:1"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "LLMSERVING_OPERATOR_AGENT_IMAGE: not set"),
        ({**IMAGE, "LLMSERVING_OPERATOR_WORKER": "3"}, "LLMSERVING_OPERATOR_WORKER: no such setting"),
        ({**IMAGE, "LLMSERVING_OPERATOR_WORKERS": "many"}, "LLMSERVING_OPERATOR_WORKERS: 'many'"),
        ({**IMAGE, "LLMSERVING_OPERATOR_WORKERS": "0"}, "greater than or equal to 1"),
        ({**IMAGE, "LLMSERVING_OPERATOR_TEMPLATE_POLICY": "Open"}, "'Restricted' or 'Unrestricted'"),
        ({**IMAGE, "LLMSERVING_OPERATOR_LOG_LEVEL": "loud"}, "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_bad_values_are_refused_by_name(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environment)

    assert words in str(caught.value)


def test_help_lists_every_variable_with_its_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    text = capsys.readouterr().out
    assert ended.value.code == 0
    for name, field in Settings.model_fields.items():
        assert f"{PREFIX}{name.upper()}\n    {field.description} [" in text
        assert field.description
    assert "[default: 3.0]" in text


@pytest.mark.parametrize("argument", ["serve", "--agent-image=a:1", "-v"])
def test_an_argument_is_refused_with_where_settings_are(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument])

    assert ended.value.code == 2
    assert f"{argument}: no such argument; settings are environment variables" in capsys.readouterr().err
