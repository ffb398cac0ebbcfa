"""The command line ``dbos``: sees and steers workflows, keeps databases, starts applications.

It works on a database with no application running. Results go to standard output, as JSON if that is no terminal;
all else goes to standard error. Stored values are shown as text or JSON; nothing is unpickled.
"""
