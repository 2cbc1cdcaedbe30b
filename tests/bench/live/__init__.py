"""Measures the live tap: real packets at the pace of real phones, over a veth pair between two namespaces."""
