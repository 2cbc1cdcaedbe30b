"""The promises of docs/assurance.md, each with somebody who tries to break it."""
