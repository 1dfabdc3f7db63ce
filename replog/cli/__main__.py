"""`python -m replog.cli`: the same as `replog`, for a process that cannot rely on where scripts are installed."""

from replog.cli import main

main()
