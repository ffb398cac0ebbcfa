"""OpenTelemetry: traces of workflows and steps, and the export of traces and logs.

``exporting`` starts it all at a launch with ``enable_otlp``, ``spans`` makes the spans, ``logs`` hands on log records.
"""
