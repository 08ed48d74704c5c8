"""What waiting for tuning jobs and parsing their DAGs costs, measured beside other ways: ``make bench``."""
