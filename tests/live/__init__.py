"""Tests against real programs on this host: SIPp, baresip, tcpdump and the daemon itself."""
