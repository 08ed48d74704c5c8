"""A real Airflow on loopback, that the demo, the end-to-end tests, the proofs and the benchmark share."""
