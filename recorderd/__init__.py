"""recorderd: a recording appliance for SIP/RTP."""

__version__ = "0.1.0"
