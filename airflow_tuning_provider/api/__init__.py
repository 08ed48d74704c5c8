"""The Vertex AI tuning API as pure functions and small immutable types.

Nothing in here performs I/O, reads a clock, or knows of Airflow: the hook, operators, sensor and trigger all ask
this package what to send, what an answer means and what to do next, so that they cannot drift apart.
"""
