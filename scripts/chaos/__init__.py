"""`make chaos`: partitions that move under load, and nothing lost.

Four workers on a real Kafka join, leave (SIGTERM), die (SIGKILL) and pause (SIGSTOP, longer than their session lasts)
at random, and the sink dies, while orders, refunds and cancellations come in, customers are merged, points are given
and taken by hand, rewards are asked for, some twice, some late and some cancelled, what they cost changes, and programs
are announced. The load's own time runs ahead, minutes at each event, so that points run out by day.

After each ten such moves the load stops, whoever is away is started again, and everything must be at rest within 30 s.
Then each request has one decision, by what its reward cost at that time, which is archived and never told otherwise,
and what was granted there were the points for; each customer's purse and ledger are held against this script's own
sums, and all that is stored against the raw history (`batch parity`). In the end everything derived is made again from
the history (`rebuild`), and a batch is run; each dies once on its way.

The exit code is 1 at the first difference; the folder with everybody's log is named.
"""
