"""The kill table: every way to end a task, on a real Airflow, and what becomes of its tuning job.

``python -m tests.proofs.kill`` runs it; see docs/reliability/kill.md.
"""
