"""Border controllers that we did not write, phones on both sides of them, and the recorder on their host.

``left`` are the phones that call, ``right`` those that answer; :class:`tests.network_namespaces.Between` is
the wires. Kamailio has rtpengine relay the media, Sippy's B2BUA has rtpproxy do it, both in user space.
"""
