#!/bin/bash
# Slurm for real: munged, slurmctld and slurmd of this machine, an array of four tasks of which one is requeued. Needs root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d /tmp/polypscope-slurm.XXXXXX)
chmod 755 "$folder"
command -v munged >/dev/null || { echo "Slurm is not installed: make fleet-slurm"; exit 1; }
daemons=()
stop() {
    for daemon in "${daemons[@]}"; do kill "$daemon" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
}
trap stop EXIT

# A key, a socket and a configuration of our own: what the machine may have of Slurm is not touched.
mkdir -p "$folder/munge" "$folder/state" "$folder/spool"
chmod 700 "$folder/munge"
dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none
chmod 400 "$folder/munge/key"
munged --foreground --force --key-file "$folder/munge/key" --socket "$folder/munge.socket" --pid-file "$folder/munge/pid" \
    --log-file "$folder/munge/log" --seed-file "$folder/munge/seed" >"$folder/munged.log" 2>&1 &
daemons+=($!)
host=$(hostname -s)
first=$((20000 + RANDOM % 10000))
cat >"$folder/slurm.conf" <<CONF
ClusterName=check
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldPort=$first
SlurmdPort=$((first + 1))
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,requeue_delay=1
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=check Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
# Nothing is to be limited here; before 23.11 slurmd does not start without a plugin all the same.
plugin=disabled
[ "$(slurmd --version | sed 's/[^0-9]*\([0-9]*\.[0-9]*\).*/\1/;s/\.//')" -ge 2311 ] || plugin=cgroup/v1
echo "CgroupPlugin=$plugin" >"$folder/cgroup.conf"
export SLURM_CONF=$folder/slurm.conf
until [ -S "$folder/munge.socket" ]; do sleep 0.1; done
slurmctld -D -f "$SLURM_CONF" >"$folder/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D -f "$SLURM_CONF" -N "$host" >"$folder/slurmd.log" 2>&1 &
daemons+=($!)
for _ in $(seq 300); do
    sinfo -h -o %t 2>/dev/null | grep -q idle && break
    sleep 0.2
done
sinfo -h -o '%t' | grep -q idle || { tail -n 20 "$folder/slurmctld.log" "$folder/slurmd.log"; exit 1; }
sinfo --version

"$here/archive.sh" "$folder/archive"
cd "$folder/archive"
# The third shard fails the first time, as on a node that lost its disk.
cat >program <<'PROGRAM'
#!/bin/bash
if [ "${SLURM_ARRAY_TASK_ID:-}" = 2 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    echo "error: this node has lost its disk" >&2
    exit 1
fi
exec "$PROGRAM" "$@"
PROGRAM
chmod +x program
job=$(PROGRAM=$POLYPSCOPE POLYPSCOPE=$PWD/program sbatch --parsable --export=ALL --array="0-$(($("$here/../shards.sh" manifest.jsonl) - 1))%2" \
    --cpus-per-task=1 --mem=500 --time=10 "$here/../slurm.sbatch" manifest.jsonl)
echo "array $job"
# A requeued task waits until two minutes after it began (Slurm's own rule).
for _ in $(seq 480); do
    [ -z "$(squeue -h -j "$job" 2>/dev/null)" ] && break
    sleep 0.5
done
squeue -h -j "$job" || true
for log in polypscope-*.log; do echo "$log:"; sed 's/^/  /' "$log"; done
grep -q 'put back into the queue' polypscope-"${job}"_2.log
"$here/result.sh" "$folder/archive"
