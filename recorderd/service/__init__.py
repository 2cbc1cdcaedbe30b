"""The service: the engine put together from its parts, and the processes it runs in."""
