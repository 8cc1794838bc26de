"""`pi05 serve` with a network that computes for as long as the first argument says, in seconds.

The second argument is how long what is in progress may take when it ends: no test waits for the five seconds that
robots are given. All of the server is the real one; what is left out is the policy.
"""

from __future__ import annotations

import sys

from serving import CONTRACT, Network, config

from pi05.serve import server
from pi05.serve.listener import bind
from pi05.serve.run import serve_answers

if __name__ == "__main__":
    server.SHUTDOWN_S = float(sys.argv[2])
    with bind("127.0.0.1", 0) as listener:
        serve_answers(config(), CONTRACT, Network(seconds=float(sys.argv[1])), listener, None)
