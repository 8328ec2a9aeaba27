"""Monitoring from outside: Prometheus metrics and health."""
