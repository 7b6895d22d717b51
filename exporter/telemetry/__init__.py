"""Metrics, durations, log lines, and the recorder that keeps them in step."""
