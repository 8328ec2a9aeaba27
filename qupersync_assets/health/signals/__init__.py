"""One module per group of signals; each defines its signals as GROUP."""
