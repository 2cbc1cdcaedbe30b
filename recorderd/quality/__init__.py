"""How a track sounds: its levels, its holes, and whether somebody should listen to it (docs/quality.md)."""
