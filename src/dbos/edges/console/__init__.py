"""The web console: pages that show the workflows of a database and, if they may, steer them.

``app`` has what all pages share; a page is a module with its routes, its template, and what it reads from ``storage``.
Pages are complete without JavaScript: links, forms that ask (GET), and forms that change something (POST, ``forms``).
What is to stay up to date is wrapped in the macro ``live``: htmx asks for the same page again and puts that part into
its place. Nothing is inline: the policy of the pages allows scripts and styles from ``static`` alone.

Links are made by ``url``, so that the pages work wherever they are mounted. Workflow ids, which may hold anything, go
into queries, as browsers rewrite paths.
"""
