"""Measures how many call-seconds the whole recorder process takes in per second of CPU time."""
