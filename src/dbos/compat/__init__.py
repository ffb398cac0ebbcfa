"""What programs written for version 2 of the older library reach for behind its public interface.

Some programs, and some published integrations, import its private modules: ``dbos._dbos``, ``dbos._context``,
``dbos._error`` and others, see docs/compatibility.md. The modules of these names, beside this package, hold nothing but
names; what they stand for is here, made of this library's own parts, and nothing of this library uses it. New programs
should not either.
"""
