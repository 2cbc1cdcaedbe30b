"""The installed product on a real systemd: `make test-system`."""
