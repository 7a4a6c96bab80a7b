# SPDX-License-Identifier: Apache-2.0
"""How good the results are, where the truth is known."""
