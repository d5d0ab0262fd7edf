"""A commit log: records in the order in which they were appended, each with an offset, kept on disk.

    log.py       the log: a list of segments, of which the last is written to
                 writer.py writes, view.py is what readers see, recovery.py starts
    segment.py   a segment: a store and an index with one base offset
                 record.py says how a record stands in a store, scan.py reads a whole store without its index
    store.py     a store: payloads, one after the other
    index.py     an index: where in the store each record begins

Each layer uses only the one below; all files go through files.py. A record is safe when Log.append has returned, see
config.py for what each policy promises. What a person can do with a log that is damaged stands in tools.py, which with
repair.py, troubles.py and pieces.py reads the files of a log that does not run: those use stores and scans directly.
"""

from emporium.commitlog.config import Config
from emporium.commitlog.log import Log
from emporium.commitlog.record import Record

__all__ = ["Config", "Log", "Record"]
