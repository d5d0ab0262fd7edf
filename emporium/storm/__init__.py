"""./tea storm: a cluster of its own, clients that note all they see, faults by a written plan, and a judge.

plan.py      what is to fail, and when: drawn from a seed          pure
links.py     where the fault proxy stands between the services
proxy.py     the fault proxy: delay, drop, half-open, reset
ground.py    the cluster with the proxy between its parts
faults.py    carries the plan out, and notes what hit
clients.py   writes, reads and deletes through the load balancer
history.py   what the clients asked and saw
checker.py   what is wrong with a history, tea by tea              pure
judge.py     valid and good, wrong, or invalid
report.py    one HTML file that shows it
command.py   all of it, one after the other
"""
