# SPDX-License-Identifier: Apache-2.0
"""Tuning the EX-4D adapter on own footage: from videos to masked clips, and from those to an adapter."""
