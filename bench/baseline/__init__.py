"""The baseline: the assignment as its own text has it, to be measured beside ours.

Flask's own server with a thread a connection, `requests` without a session, one message a call, the plain HTTP of the
course, and Redis as it comes, which does not sync what it stores. Nothing here comes from `emporium/`, so that what
makes ours fast or slow is not in it; the clock is the one that the course gave.
"""
