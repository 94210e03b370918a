"""The demo: three rollouts from start to end on one machine, with simulated upstreams and judge."""
