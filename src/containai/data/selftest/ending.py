"""The last attacks: to stay, whatever asks it to go. In a session of its own that has a time limit."""

from __future__ import annotations

import os
import signal
import time

from attack import say

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
with open("work-of-the-last-moment", "w") as work:
    work.write("it must come home\n")
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)
say("ending.kill-everything", "held", "all that it may signal was signalled; the launcher looks for itself")
os.kill(-1, signal.SIGKILL)
time.sleep(600)
