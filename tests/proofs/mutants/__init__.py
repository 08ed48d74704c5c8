"""One-point mutants of the code that talks and waits, and whether ``make test-fast`` notices them.

``python -m tests.proofs.mutants`` (``make mutants``) takes a seeded sample of mutants, made by the operators of
cosmic-ray and one of our own, and runs for each the tests that execute what it changes.
"""
