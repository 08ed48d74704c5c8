"""A local Vertex AI tuning server, for demos, tests and users' own DAG tests. See docs/emulator.md."""
