"""Tests of the runtime layer: workflows, recovery, queues."""
