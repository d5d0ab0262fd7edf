"""What stands behind serverView.py: the ring as people see it, in a browser.

ring.py       where the services are, and one question to each
asked.py      what came of it, in words: pure
snapshot.py   the state of all of them at one moment: pure
poller.py     who asks, and when
hub.py        one stream of events to many open pages
door.py       who may ask the view, and safe headers
files.py      the pages themselves, which are in pages/
"""
