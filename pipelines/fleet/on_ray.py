#!/usr/bin/env python3
"""Ray: one task a shard.

    python pipelines/fleet/on_ray.py manifest.jsonl [options of `polypscope fleet run`]

Joins the cluster named by RAY_ADDRESS, or starts workers on this machine. Every node needs the program and sees the recordings
and the store under the same names. Exit codes: 0 all is done, 1 try again, 2 never again, 3 one more try.
"""
import json
import os
import subprocess
import sys

import ray

CPUS = int(os.environ.get("CPUS", "1"))
RETRIES = int(os.environ.get("RETRIES", "3"))


class TryAgain(Exception):
    pass


# A node that is lost takes its task to another one as well: what it has done stands in the store.
@ray.remote(num_cpus=CPUS, max_retries=RETRIES, retry_exceptions=[TryAgain])
def shard(program, manifest, index, of, options):
    command = [program, "fleet", "run", "--manifest", manifest, "--shard", f"{index}/{of}", "--threads", str(CPUS), *options]
    code = subprocess.run(command).returncode
    if code == 3:
        code = subprocess.run(command).returncode
    if code not in (0, 2, 3):
        raise TryAgain(f"shard {index}: exit code {code}")
    return code


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    manifest, options = os.path.abspath(sys.argv[1]), sys.argv[2:]
    with open(manifest) as lines:
        of = json.loads(lines.readline())["shards"]
    ray.init(num_cpus=None if "RAY_ADDRESS" in os.environ else os.cpu_count(), include_dashboard=False, log_to_driver=True)
    program = os.environ.get("POLYPSCOPE", "polypscope")
    tasks = {shard.remote(program, manifest, index, of, options): index for index in range(of)}
    worst, open_tasks = 0, list(tasks)
    while open_tasks:
        done, open_tasks = ray.wait(open_tasks)
        for task in done:
            try:
                code = ray.get(task)
            except ray.exceptions.RayError as e:
                print(f"shard {tasks[task]}: {e}", file=sys.stderr)
                code = 1
            print(f"shard {tasks[task]} of {of}: exit code {code}")
            # 2 and 1 are failures, 3 is not all whole.
            worst = max(worst, code, key=[0, 3, 2, 1].index)
    sys.exit(worst)


main()
