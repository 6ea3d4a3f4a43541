"""An app with a user model of its own, for the conformance suites of auth sources."""
