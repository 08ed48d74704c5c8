"""The demo of airflow-tuning-provider."""
