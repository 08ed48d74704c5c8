"""The demo of airflow-tuning-provider, and the local Airflow that it shares with the end-to-end tests."""
