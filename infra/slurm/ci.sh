#!/usr/bin/env bash
# infra/slurm/ci.sh COMMAND…: run a command with a Slurm cluster of one controller and two nodes, on a bare Debian machine.
#
# Debian's slurm-wlm, munge and environment-modules are installed where they are missing. The nodes n1 and n2 are two
# slurmd on this machine with ports of their own, both cores and two GPUs each; n2 has the feature `ib`. The GPUs are
# devices that every machine has, which Slurm hands out as it would real ones. Partition `all` is the default, `short`
# ends a job after a minute, and a job of `first` preempts those of the others: of `all` after GraceTime, of `short` at once.
# Everything of the cluster is in one folder, which SLURM_CONF points into; at the end what was started is stopped and
# the folder is gone. A cluster that this machine has already is used as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."

if command -v sinfo >/dev/null && timeout 10 sinfo >/dev/null 2>&1; then
  exec "$@"
fi
[ "$(id -u)" = 0 ] || { echo "ci: a Slurm cluster is started by root" >&2; exit 1; }

work=$(mktemp -d /tmp/cxrflow-slurm.XXXXXX)
cleanup() {
  if [ -s "$work/slurmctld.pid" ]; then # what jobs are left ends before the daemons that could end it
    timeout 10 scancel --full --signal=KILL --user="$(id -un)" 2>/dev/null || true
    timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 50); do
      [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break
      sleep 0.1
    done
  fi
  for file in "$work"/slurmd.n?.pid "$work"/slurmctld.pid "$work"/munged.pid; do
    stop "$file"
  done
  rm -rf "$work"
}

stop() {
  [ -s "$1" ] || return 0
  local pid
  pid=$(cat "$1")
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 50); do
    kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$pid/status" || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}
trap cleanup EXIT

wanted="slurm-wlm munge environment-modules"
# `command -v` of several names is content with one of them; `type` wants all.
if ! type slurmctld slurmd munged >/dev/null 2>&1 || [ ! -e /etc/profile.d/modules.sh ]; then
  echo "ci: installing $wanted"
  apt-get update -qq >"$work/apt.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >>"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; exit 1; }
fi

chmod 755 "$work"
mkdir -m 755 "$work/munge" "$work/state" "$work/spool.n1" "$work/spool.n2"
head -c 1024 /dev/urandom >"$work/munge/key" && chmod 400 "$work/munge/key"
munged --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munged.pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed"

read -r controller first second < <(python3 -c '
import socket
found = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in found))')
# cred_expire is also how long a requeued job waits; SlurmdTimeout how long a silent node counts as alive.
cat >"$work/slurm.conf" <<CONF
ClusterName=ci
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=8
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool.%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1024
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=12
KillWait=10
MinJobAge=600
NodeName=DEFAULT CPUs=2 RealMemory=4096 Gres=gpu:a100:2
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$first
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$second Feature=ib
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE OverSubscribe=NO GraceTime=30
PartitionName=short Nodes=n[1-2] MaxTime=1
PartitionName=first Nodes=n[1-2] PriorityTier=9 PreemptMode=OFF
CONF
echo "Name=gpu Type=a100 File=/dev/null" >"$work/gres.conf"
echo "Name=gpu Type=a100 File=/dev/zero" >>"$work/gres.conf"
export SLURM_CONF="$work/slurm.conf"

slurmctld
slurmd -N n1
slurmd -N n2
for _ in $(seq 60); do
  [ "$(sinfo -h -p all -o '%D' -t idle 2>/dev/null)" = 2 ] && break
  sleep 0.5
done
[ "$(sinfo -h -p all -o '%D' -t idle 2>/dev/null)" = 2 ] || { tail -n 20 "$work"/*.log >&2; exit 1; }
echo "ci: started a Slurm cluster of two nodes"

"$@"
