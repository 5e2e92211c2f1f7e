"""Every decision of the job core, as pure state machines: no sockets, clocks, threads or files."""
