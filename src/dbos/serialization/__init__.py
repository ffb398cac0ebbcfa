"""Values at rest: how inputs, results and exceptions become text, and come back.

Every row names the format of its values and is decoded by that format, never by guessing. The default format is pickle
in Base64. Bytes are only ever unpickled that come from the library's own tables.
"""
