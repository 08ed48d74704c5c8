"""Apache Airflow provider for Gemini tuning jobs on Google Vertex AI."""

__version__ = "0.1.0"
