"""`python -m qupersync_assets.webserver`: the webserver of `make up`, which shows the state of the syncs first.

In containers, where the webserver does not have the settings of the syncs, `serve.webserver` is started instead.
"""

from qupersync_assets.monitoring.status_page import StatusPage
from qupersync_assets.serve.webserver import main

if __name__ == "__main__":
    main(StatusPage)
