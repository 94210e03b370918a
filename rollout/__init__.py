"""Decisions: statistics, policy, the state machine, the controller, the admin API and the CLI.

Never touches a production request: it only writes a ``Split`` that gateways read.
"""
