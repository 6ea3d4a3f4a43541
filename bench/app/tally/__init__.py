"""The app that the benches load: it counts every run of every event."""
