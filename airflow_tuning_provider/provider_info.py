"""Provider metadata. Every Airflow process imports this: it must stay free of other imports."""

from __future__ import annotations

from typing import Any

from airflow_tuning_provider import __version__

CONNECTION_TYPE = "vertex_ai_tuning"
CONFIG_SECTION = "vertex_ai_tuning"
DEFAULT_CONN_ID = "google_cloud_default"
_INTEGRATION = "Vertex AI Gemini tuning"
_MODULES = "airflow_tuning_provider"


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def get_provider_info() -> dict[str, Any]:
    """Return the metadata that Airflow discovers providers by (``provider_info.schema.json``)."""
    return {
        "package-name": "airflow-tuning-provider",
        "name": "Gemini tuning",
        "description": "Create, watch and cancel Gemini tuning jobs on Google Vertex AI.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": (
                    "https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.tuningJobs"
                ),
                "tags": ["gcp"],
            }
        ],
        "operators": [
            _modules(
                "operators",
                "tuning_job",
                "orphans",
                "datasets",
                "evaluation",
                "promotion",
                "cleanup",
                "retirement",
            )
        ],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hooks")],
        "triggers": [_modules("triggers", "tuning_job", "ended_jobs")],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": f"{_MODULES}.hooks.tuning_job.TuningJobHook",
                "hook-name": "Vertex AI Gemini tuning",
                "ui-field-behaviour": {
                    # The port is not used, but Airflow 3.3's Test button refuses saved connections without one.
                    "hidden-fields": ["host", "schema", "login"],
                    "relabeling": {"password": "Access token", "port": "Port (only for the Test button)"},
                    "placeholders": {
                        "password": "leave empty; a short-lived token, or any text for the emulator",
                        "port": "443",
                    },
                },
                "conn-fields": _connection_fields(),
            }
        ],
        "extra-links": [
            f"{_MODULES}.links.tuning_job.TuningJobLink",
            f"{_MODULES}.links.tuning_job.TunedModelLink",
            f"{_MODULES}.links.tuning_job.TunedEndpointLink",
            f"{_MODULES}.links.tuning_job.TuningJobsPageLink",
        ],
        # Airflow 3.1 does not know it: there, python -m airflow_tuning_provider.
        "cli": [f"{_MODULES}.cli.definition.get_cli_commands"],
        "config": {
            CONFIG_SECTION: {
                "description": "Gemini tuning jobs on Vertex AI.",
                "options": {
                    "deployment": {
                        "description": (
                            "Name of this Airflow deployment. It is part of what makes a tuning job belong to a "
                            "task instance: set different names where several deployments that may run the same "
                            "DAG ids share one Google Cloud project."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    }
                },
            }
        },
    }


def _modules(kind: str, *names: str) -> dict[str, Any]:
    modules = [f"{_MODULES}.{kind}.{name}" for name in names or ("tuning_job",)]
    return {"integration-name": _INTEGRATION, "python-modules": modules}


def _connection_fields() -> dict[str, Any]:
    """The fields of the official ``google_cloud_platform`` type that apply, and two of our own."""
    return {
        "project": _text("Project id", "Project that tuning jobs run in unless the task says otherwise."),
        "location": _text("Location", "Default location of tuning jobs, for example us-central1."),
        "api_endpoint": _text(
            "API endpoint",
            "Only for private endpoints, proxies and the emulator: https://HOST[:PORT]; http only for loopback.",
        ),
        "key_path": _text("Keyfile path", "Path of a service account key in JSON, on every Airflow machine."),
        "keyfile_dict": _text("Keyfile JSON", "Content of a service account key.", format="password"),
        "credential_config_file": _text(
            "Credential configuration file",
            "Path or JSON of a credential configuration, for workload identity federation.",
        ),
        "scope": _text("Scopes (comma separated)", "Default: https://www.googleapis.com/auth/cloud-platform"),
        "impersonation_chain": _text(
            "Impersonation chain", "Service accounts to impersonate, comma separated; the last one acts."
        ),
        "quota_project_id": _text("Quota project id", "Project that API calls are counted against."),
        "universe_domain": _text("Universe domain", "Default: googleapis.com"),
        "num_retries": {
            "label": "Number of retries",
            "description": "How often a failed call that is safe to repeat is sent again.",
            "schema": {"type": ["integer", "null"], "minimum": 0, "maximum": 100, "default": 5},
        },
        "is_anonymous": {
            "label": "Anonymous",
            "description": "Send no credentials at all.",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
    }
