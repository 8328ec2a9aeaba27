"""The command `qupersync`, also as `python -m qupersync_assets.cli`."""

import gc

# Imports make many objects and leave no garbage: a tenth of the time of a short command would go into looking for it.
gc.set_threshold(100_000, 50, 100)

from qupersync_assets.cli import app  # noqa: E402

if __name__ == "__main__":
    app()
