"""The benchmark: QuperSync compared with other tools; see `__main__.py`."""
