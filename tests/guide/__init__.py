"""The programming guide of the specification: every block of code in it, executed or compared with the live objects.

Programs are executed as they are written, in a namespace that has what they take for granted, or with a preamble where
they are a process of their own. Where they leave something open (`...`), or would wait for a minute, a test then runs
them again with that replaced, and says so. `inventory` knows which test has which block.
"""
