"""A real Ray cluster of two nodes on loopback, in a process of its own: ``python two_nodes.py FOLDER CLIENT_PORT``.

It answers with its address, then each line of its input: "busy" with what is still taken on it, as JSON; "remove" by
killing the second node. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

CPUS = 2.0  # a node; logical ones


def main(folder: str, client_port: str) -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder, "TMPDIR": folder}
    (Path(folder) / "ray").mkdir()  # Cluster notes its address in it
    import ray
    from ray.cluster_utils import Cluster
    from ray.util import placement_group_table

    node = {
        "num_cpus": CPUS,
        "object_store_memory": 80 * 2**20,
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
    }
    # A killed node is noticed in 5 s instead of 15; one that is only busy is not taken for dead.
    config = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5, "health_check_timeout_ms": 5000}
    head = {
        **node,
        "_system_config": config,
        "node_ip_address": "127.0.0.2",
        "ray_client_server_port": int(client_port),
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(**node, node_ip_address="127.0.0.3")
    ray.init(cluster.address, log_to_driver=False)
    print(f"answer: {cluster.address}", flush=True)
    for line in sys.stdin:
        if line.strip() == "remove":
            cluster.remove_node(second, allow_graceful=False)
        groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
        total, free = ray.cluster_resources(), ray.available_resources()
        answer = {"groups": len(groups), "cpus": total["CPU"] - free.get("CPU", 0.0)}
        print(f"answer: {json.dumps(answer)}", flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
