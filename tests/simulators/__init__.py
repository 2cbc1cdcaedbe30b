"""Simulators of what surrounds the recorder: a PBX that talks SIP and RTP into capture files."""
