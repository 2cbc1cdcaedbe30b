"""The commands of recorderctl."""
