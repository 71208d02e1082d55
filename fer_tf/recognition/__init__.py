"""From pictures and clips to faces with answers, whoever gives the answers: a run, an export or a server."""
