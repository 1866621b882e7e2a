"""A web dashboard on the SDK: a page each for admins, technicians, customers and transporters.

::

    python -m examples.dashboard --open
"""
