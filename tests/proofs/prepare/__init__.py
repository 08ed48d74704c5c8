"""Kills PrepareTuningDatasetOperator wherever it is: nothing half-written is ever published."""
