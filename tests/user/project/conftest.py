pytest_plugins = ["airflow_tuning_provider.testing"]
