"""Sends alerts for runs and checks that fail, to the services of ALERT_URLS."""
