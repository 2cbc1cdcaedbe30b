"""Payloads to samples: the codecs, and the files that samples are written to."""
