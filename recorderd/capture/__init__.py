"""Where packets come from: the rings on interfaces, and capture files."""
