"""Tells people of runs and checks that fail: on Slack, by e-mail, or by what else one adds to
`channels.py`."""
