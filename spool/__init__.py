"""What keeps recordings: container, keys, writer, reader, recovery, manifest, index, stores and sync."""
