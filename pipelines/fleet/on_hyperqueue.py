#!/usr/bin/env python3
"""HyperQueue: one task a shard, through its Python package.

    python pipelines/fleet/on_hyperqueue.py manifest.jsonl [options of `polypscope fleet run`]

Uses the server whose folder HQ_SERVER_DIR names; without it, a server and a worker of this machine that end with the work. A task
whose worker is lost is given to another one by HyperQueue itself; what exit codes ask for is done by shard.sh.
"""
import json
import os
import sys

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
from hyperqueue.ffi.protocol import ResourceRequest

HERE = os.path.dirname(os.path.realpath(__file__))
CPUS = int(os.environ.get("CPUS", "1"))


def work(client, manifest, options):
    with open(manifest) as lines:
        shards = json.loads(lines.readline())["shards"]
    job = Job(max_fails=shards)
    logs = os.environ.get("LOGS", ".")
    for index in range(shards):
        # The shard's number is taken from HQ_TASK_ID; tasks are numbered from 0 in the order in which they are added.
        job.program(
            [os.path.join(HERE, "shard.sh"), manifest, "--threads", str(CPUS), *options],
            env={"POLYPSCOPE": os.environ.get("POLYPSCOPE", "polypscope"), "PATH": os.environ["PATH"]},
            cwd=os.getcwd(),
            stdout=os.path.join(logs, f"polypscope-{index}.out"),
            stderr=os.path.join(logs, f"polypscope-{index}.err"),
            resources=ResourceRequest(cpus=CPUS),
        )
    submitted = client.submit(job)
    client.wait_for_jobs([submitted], raise_on_error=False)
    failed = client.get_failed_tasks(submitted)
    for index, failure in sorted(failed.items()):
        print(f"shard {index} of {shards}: {failure.error}", file=sys.stderr)
    print(f"{shards - len(failed)} of {shards} shards ended well")
    return 1 if failed else 0


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    manifest, options = os.path.abspath(sys.argv[1]), sys.argv[2:]
    if "HQ_SERVER_DIR" in os.environ:
        return work(Client(os.environ["HQ_SERVER_DIR"]), manifest, options)
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=os.cpu_count()))
        return work(cluster.client(), manifest, options)


sys.exit(main())
