"""Tests of the edges: command line, HTTP, telemetry."""
