"""The source: connections to Redshift, and what is read over them."""

import sys
from types import ModuleType

# Two plugins of redshift_connector, for logins that QuperSync does not have, import boto3: most of the time and the
# memory of `import redshift_connector`. A process that logs in with IAM imports boto3 when it does.
_UNUSED = {"idp_token_auth_plugin": "IdpTokenAuthPlugin", "browser_idc_auth_plugin": "BrowserIdcAuthPlugin"}
if "redshift_connector" not in sys.modules:
    for _name, _plugin in _UNUSED.items():
        _module = ModuleType(f"redshift_connector.plugin.{_name}", "Left out by QuperSync.")
        setattr(_module, _plugin, None)
        sys.modules.setdefault(_module.__name__, _module)
