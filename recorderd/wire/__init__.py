"""The wire: bytes to values. Link, IP, UDP, RTP, SIP and SDP; pure, and bounded whatever arrives."""
