"""The fault soak: many tasks against an API of which nearly every third call misbehaves.

``python -m tests.proofs.soak`` runs it; see docs/reliability/soak.md.
"""
