"""Dialogs to calls, sides and outcomes: pure, table-driven."""
