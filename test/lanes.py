"""Which of the two processes of a whole `./tea test` runs which tests: a file at a time, those that take longest first.

    lane 1   test_plain.py              test_fuzz.py       ...      |   test_hung.py   ...
    lane 2   test_throughput_bench.py        test_tea.py     ...    |

The longest come first so that neither lane has much left to do when the other one has ended. The files of QUIET come
last, in one lane, when the other one has ended.
"""

from xdist.scheduler import LoadFileScheduling

LONGEST = [
    *["test_simulator.py", "test_failpoints.py", "test_pages.py"],
    *[
        "test_docs_run.py",
        "test_openapi.py",
        "test_tea.py",
        "test_client.py",
        "test_siblings.py",
        "test_throughput_bench.py",
        "test_fuzz.py",
        "test_plain.py",
        "test_backup.py",
    ],
    *["test_commitlog_state.py", "test_run.py", "test_bench.py", "test_log_bench.py", "test_commitlog_powerloss.py"],
    *["test_hostile.py", "test_queue_crash.py", "test_stories.py", "test_channel.py", "test_servers.py"],
]
QUIET = ["test_hung.py", "test_gather.py", "test_storm.py"]  # what counts operations, or lets 30 ms decide


def turn_of(item):
    """The key that sorts tests into the order in which their files are given out. Those in no list are in between."""
    name = item.path.name
    longest = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    quiet = QUIET.index(name) if name in QUIET else -1
    return quiet, longest, name


def bases_of(worker):
    """Where the layouts of a lane may begin ("gw0", "gw1"), so that no port of the one is ever one of the other."""
    return range(21_000, 27_000) if worker == "gw1" else range(10_000, 15_000)


class Lanes(LoadFileScheduling):
    """Gives out the files in the order in which they were collected, and those of QUIET to one lane alone."""

    def mark_test_complete(self, node, *test):
        super().mark_test_complete(node, *test)
        for lane in self.nodes:  # one of them may wait for this one to end
            self._reschedule(lane)

    def _reschedule(self, node):
        first, *others = self.nodes
        if not self._is_quiet_next():
            super()._reschedule(node)
        elif node is not first:
            node.shutdown()  # once it has done what it was given
        elif not any(self._pending_of(self.assigned_work[lane]) for lane in others):
            super()._reschedule(node)

    def _is_quiet_next(self):
        return next(iter(self.workqueue), "").rpartition("/")[2] in QUIET
