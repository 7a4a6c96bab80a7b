# SPDX-License-Identifier: Apache-2.0
"""The job server: takes jobs over ZeroMQ, keeps them in SQLite, has a worker process do them. Never imports bpy.

`front.py` talks to clients, `jobs.py` decides what runs, `executor.py` owns the worker process, `worker.py` is that
process, `store.py` and `artifacts.py` are what survives a crash.
"""
