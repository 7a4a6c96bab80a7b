# SPDX-License-Identifier: Apache-2.0
"""Whether a Ray cluster is there, whether it lets strangers in, and how many GPUs it has.

Asked by processes of their own, `python -m ex4d.ray_cluster HOST:PORT`: Ray reads from its environment once whether it
shows a token, and it ends its process when it loses the cluster, which a server must not have.
"""

import argparse
import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ex4d.errors import InputError, MachineError
from ex4d.pipes import helper_environment

REACH_S, ANSWER_S = 5.0, 60.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "error"}


@dataclass(frozen=True)
class Cluster:
    """Where the work shall run.

    Raises:
        InputError: the address is none, or one of Ray's client servers.
    """

    address: str  # HOST:PORT of its head
    allow_open: bool = False  # use it although everybody who reaches it may run programs there
    share_folder: bool = True  # let its nodes read and write the folder when they see it

    def __post_init__(self) -> None:
        host, colon, port = self.address.rpartition(":")
        if not (host and colon and port.isdigit()) or "/" in host:
            raise InputError(
                f"A Ray cluster's address is HOST:PORT of its head, as `ray start --address` takes it, got "
                f"'{self.address}'."
            )

    @property
    def environment(self) -> dict[str, str]:
        """For a process that uses the cluster."""
        shown = {} if self.allow_open or "RAY_AUTH_MODE" in os.environ else {"RAY_AUTH_MODE": "token"}
        return {**QUIET, **shown}


def check_ray_is_installed() -> None:
    """Refuse to go on without the package, or MachineError."""
    spec = find_spec("ray")
    if spec is None or spec.origin is None:  # or it is some folder of that name
        raise MachineError(
            "Work on a cluster needs the Python package ray, which is not installed. Install it with: pip install "
            "'ex4d[ray]'."
        )


def join_cluster(cluster: Cluster) -> None:
    """Make this process a program of the cluster; its traffic with strangers is switched off. Blocks for seconds.

    Raises:
        MachineError: there is no cluster, it does not let us in, or it lets everybody in.
    """
    check_ray_is_installed()
    reach(cluster.address)
    check_closed(cluster)
    os.environ.update(cluster.environment)
    import ray
    from ray.exceptions import AuthenticationError, RayError

    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError as error:
        raise MachineError(f"The cluster does not take our token: {str(error).splitlines()[0]}") from error
    except (RayError, RuntimeError, ConnectionError, ValueError) as error:
        raise MachineError(
            f"This machine cannot use the cluster at {cluster.address}: {str(error).splitlines()[0]} Make it one "
            f"of its nodes: ray start --address={cluster.address} --num-gpus=0"
        ) from error


def count_gpus(cluster: Cluster) -> int:
    """The GPUs of a cluster that we may use. Blocks for seconds.

    Raises:
        MachineError: there is no cluster, it does not let us in, or it lets everybody in.
    """
    check_ray_is_installed()
    check_closed(cluster)
    answer = _ask(cluster.address, cluster.environment)
    if "error" in answer:
        raise MachineError(answer["error"])
    return int(answer["gpus"])


def check_closed(cluster: Cluster) -> None:
    """Refuse a cluster that does not ask for a token, or MachineError. Blocks for seconds."""
    if cluster.allow_open:
        return
    answer = _ask(cluster.address, {**QUIET, "RAY_AUTH_MODE": "disabled"})
    if "gpus" in answer:
        raise MachineError(
            f"The Ray cluster at {cluster.address} does not ask for a token: whoever reaches it can run programs on "
            "its machines. Start it with RAY_AUTH_MODE=token on every node (docs/server.md), or say "
            "--allow-open-cluster if nobody else can reach it."
        )
    if not answer.get("refused"):
        raise MachineError(answer["error"])


def reach(address: str) -> None:
    """See whether anything listens there, or MachineError; Ray itself would wait for a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except OSError as error:
        raise MachineError(f"No Ray cluster answers at {address}: {error.strerror or error}.") from error


def _ask(address: str, environment: dict[str, str]) -> dict[str, Any]:
    """The answer of a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ex4d.ray_cluster", address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            env=helper_environment(environment),
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return {"error": f"The Ray cluster at {address} does not answer as one."}
    return answer


def _look(address: str) -> dict[str, Any]:
    """Nodes and GPUs, or why not."""
    try:
        reach(address)
    except MachineError as error:
        return {"error": str(error)}
    from ray._raylet import GcsClient  # the public ways in join the cluster as a program and take seconds
    from ray.exceptions import AuthenticationError, RayError

    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=REACH_S).values()
    except AuthenticationError as error:
        text = f"The Ray cluster at {address} does not take our token: {str(error).splitlines()[0]}"
        return {"error": text, "refused": True}
    except (RayError, RuntimeError) as error:
        return {"error": f"The Ray cluster at {address} does not answer: {str(error).splitlines()[0]}"}
    alive = [node for node in nodes if node.state == node.ALIVE]
    return {"gpus": sum(int(node.resources_total.get("GPU", 0)) for node in alive), "nodes": len(alive)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Says as JSON what a Ray cluster has.")
    parser.add_argument("address", metavar="HOST:PORT")
    sys.stdout.write(json.dumps(_look(parser.parse_args().address)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
