"""Tests of the kit that programs are tested with."""
