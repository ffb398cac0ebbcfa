"""Metrics in the OpenMetrics format: ``meter`` measures what this process does, ``load`` reads what is to be done from
the database, ``collector`` gives both to whoever scrapes.
"""
