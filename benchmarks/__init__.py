"""The benchmark: QuperSync beside other ways to keep the same rows fresh; see `__main__.py`."""
