"""The command line: ``airflow tuning-jobs …``, and ``python -m airflow_tuning_provider …`` everywhere."""
