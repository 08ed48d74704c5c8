"""The page "Tuning jobs" in Airflow's UI: a plugin, its routes, and the React application in ``www/``."""
