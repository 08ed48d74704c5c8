"""Kills processes at every point of a tuning job's life, and counts what becomes of the jobs."""
