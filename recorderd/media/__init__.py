"""Media: the packet table, sequence numbers, clocks, and the way back from packets to samples."""
