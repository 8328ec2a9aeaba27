"""One file a version. A released one stays as it is, and imports nothing of ours that may change."""
