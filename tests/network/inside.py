"""Refuses to run in the network in which the test was started: on a cloud machine that is a real network.

Every script here imports this first. The test names that network namespace in IMDSD_TEST_NOT_IN.
"""
import os
import sys

OUTSIDE = os.environ.get("IMDSD_TEST_NOT_IN")
HERE = os.readlink("/proc/self/ns/net")
if not OUTSIDE or HERE == OUTSIDE:
    sys.exit(97)
