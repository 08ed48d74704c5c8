"""Comparing a tuned model with what it is to replace, on examples that neither has seen. Usable without Airflow."""
