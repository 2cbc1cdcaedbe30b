"""Telling people what needs them: lines to syslog."""
