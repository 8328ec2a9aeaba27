"""What one can see of QuperSync from outside: the state of every job, Prometheus metrics, health."""
