"""Data sets for tuning: read, convert, check, deduplicate, split, count. Works without Airflow."""
