"""Refuses to run in the network that the test was started in: on a cloud's machine that is somebody's real one.

Every script here imports this before anything else. The test says in IMDSD_TEST_NOT_IN which network namespace that is.
"""
import os
import sys

OUTSIDE = os.environ.get("IMDSD_TEST_NOT_IN")
HERE = os.readlink("/proc/self/ns/net")
if not OUTSIDE or HERE == OUTSIDE:
    sys.exit(97)
