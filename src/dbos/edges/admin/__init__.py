"""The admin HTTP server: it tells of this process's workflows, and steers them.

``listener`` opens the port at the launch, which costs next to nothing, and waits; the HTTP stack is imported when the
first request comes (``edges.serving``). ``app`` has the endpoints, ``edges.guards`` what every request must pass,
``bodies`` reads what it says, ``openapi`` describes it all. The pages below ``/console`` are ``edges.console``.
"""
