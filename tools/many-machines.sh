#!/bin/sh
# tools/many-machines.sh [MODEL]
#
# Many prompts on many machines, as docs/many-machines.md has it: 1,000 prompts by GNU
# parallel over a local sshd, and by an array of Slurm on one node, each with a worker
# killed in the middle; every line must be answered exactly once. Takes a few minutes,
# and root (Debian: parallel, openssh-server, slurm-wlm, munge), so that it is not in CI.
#
# MODEL is a .gguf file or a name of tools/models.tsv (default: smollm2-135m). PROMPTS in
# the environment: how many. ZOSIA_NATIVE: the plain command (default: out/native/init).
#
# Exit status: 0; 1 a line was lost, doubled or not answered; 3 something is missing.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source-path=SCRIPTDIR source=lib/script.sh
. "$tools/lib/script.sh"
# shellcheck source-path=SCRIPTDIR source=lib/host.sh
. "$tools/lib/host.sh"
case ${1:-} in -h | --help) usage && exit 0 ;; esac

for command in parallel ssh ssh-keygen slurmctld slurmd sbatch munged pgrep; do
    have "$command" || [ -x "/usr/sbin/$command" ] ||
        die 3 "$command is not installed: apt-get install parallel openssh-server slurm-wlm munge procps"
done
[ "$(id -u)" -eq 0 ] || die 3 "sshd and Slurm are started by root"
native=${ZOSIA_NATIVE:-${tools%/*}/out/native/init}
[ -x "$native" ] || die 3 "$native is not built: tools/build.sh --native"
case ${1:-smollm2-135m} in
    *.gguf) model=$1 ;;
    *) model=$("$tools/model.sh" path "${1:-smollm2-135m}") ;;
esac

scratch=$(mktemp -d "${TMPDIR:-/tmp}/zosia-many.XXXXXX")
started=''
end() {
    for id in $started; do kill "$id" 2>/dev/null || :; done
    # They write to the last.
    for id in $started; do wait "$id" 2>/dev/null || :; done
    rm -rf "$scratch"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$scratch"
# Names of its own, by which the workers are found.
ln -s "$native" "$scratch/zosia"
ln -s "$(absolute "$model")" "$scratch/model.gguf"
prompts=${PROMPTS:-1000}
awk -v prompts="$prompts" 'BEGIN {
    for (i = 1; i <= prompts; i++) printf "{\"id\":%d,\"prompt\":\"Write the number %d.\"}\n", i, i
}' >"$scratch/prompts.jsonl"

# Kills a worker once there are so many.
kill_one() { # WORKERS
    while [ "$(pgrep -fc "^$scratch/zosia .*--batch")" -lt "$1" ]; do sleep 0.2; done
    sleep 3
    victim=$(pgrep -fo "^$scratch/zosia .*--batch")
    say "killing worker $victim"
    kill -9 "$victim"
}

# Every line answered, once.
check() { # FILE
    [ "$(grep -c '^{"answered":true,"id":' "$1")" -eq "$prompts" ] || die 1 "$1: $(grep -c '^{"answered":true' "$1") of $prompts were answered"
    [ "$(wc -l <"$1")" -eq "$prompts" ] || die 1 "$1: $(wc -l <"$1") lines"
    [ "$(sed 's/.*"id":\([0-9]*\),.*/\1/' "$1" | sort -n | uniq | wc -l)" -eq "$prompts" ] || die 1 "$1: a line is there twice"
}

by_parallel() {
    ssh-keygen -q -t ed25519 -N '' -f "$scratch/host"
    ssh-keygen -q -t ed25519 -N '' -f "$scratch/user"
    cp "$scratch/user.pub" "$scratch/authorized"
    mkdir -p /run/sshd
    /usr/sbin/sshd -D -e -f /dev/null -h "$scratch/host" -p "${SSH_PORT:-22022}" -o ListenAddress=127.0.0.1 -o ListenAddress=127.0.0.2 \
        -o StrictModes=no -o PermitRootLogin=prohibit-password -o AuthorizedKeysFile="$scratch/authorized" \
        -o PidFile=none 2>"$scratch/sshd.log" &
    started="$started $!"
    kill_one 2 &
    killer=$!
    parallel --pipe --block 4k --keep-order --retries 3 --jobs 1 \
        --ssh "ssh -q -p ${SSH_PORT:-22022} -i $scratch/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null" \
        --sshlogin 127.0.0.1,127.0.0.2 \
        "$scratch/zosia $scratch/model.gguf --batch - --temp 0 --max-tokens 6 --threads 1 --ctx 512" \
        <"$scratch/prompts.jsonl" >"$scratch/results.jsonl" 2>"$scratch/parallel.log" || die 1 "parallel: status $?: $(tail -n 3 "$scratch/parallel.log")"
    wait "$killer"
    check "$scratch/results.jsonl"
    sed 's/.*"id":\([0-9]*\),.*/\1/' "$scratch/results.jsonl" | sort -nc || die 1 "the order is another"
    say "GNU parallel: $prompts prompts, each answered once, in order"
}

by_slurm() {
    host=$(hostname -s)
    cat >"$scratch/slurm.conf" <<END
ClusterName=zosia
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmdPidFile=$scratch/slurmd.pid
SlurmdParameters=config_overrides
AuthInfo=socket=$scratch/munge.socket
SchedulerParameters=batch_sched_delay=0,sched_interval=1
RequeueExit=137
MinJobAge=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    mkdir "$scratch/state" "$scratch/spool"
    export SLURM_CONF="$scratch/slurm.conf"
    # munged wants a path that nobody else can write to.
    dd if=/dev/urandom of="$scratch/munge.key" bs=1024 count=1 2>/dev/null
    chmod 400 "$scratch/munge.key"
    munged --force --foreground --key-file="$scratch/munge.key" --socket="$scratch/munge.socket" \
        --pid-file="$scratch/munge.pid" --log-file="$scratch/munge.log" --seed-file="$scratch/munge.seed" >/dev/null 2>&1 &
    started="$started $!"
    slurmctld -D -c >"$scratch/slurmctld.log" 2>&1 &
    started="$started $!"
    slurmd -D -N "$host" >"$scratch/slurmd.log" 2>&1 &
    started="$started $!"
    cat >"$scratch/job" <<END
#!/bin/sh
part=\$SLURM_ARRAY_TASK_ID
cd "$scratch"
awk -v part="\$part" 'NR % 4 == part' prompts.jsonl > "prompts.\$part"
"$scratch/zosia" "$scratch/model.gguf" --batch "prompts.\$part" --output "results.\$part" --resume \\
    --temp 0 --max-tokens 6 --threads "\$SLURM_CPUS_PER_TASK" --ctx 512
END
    tries=0
    until sinfo -h -t idle 2>/dev/null | grep -q idle; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || die 3 "Slurm does not start: $(tail -n 2 "$scratch/slurmctld.log" "$scratch/slurmd.log")"
        sleep 0.5
    done
    job=$(sbatch --parsable --array=0-3 --requeue --cpus-per-task=1 --output="$scratch/job.%a.log" "$scratch/job")
    kill_one 2
    while squeue -h -j "$job" 2>/dev/null | grep -q .; do sleep 1; done
    grep -q . "$scratch"/results.3 || die 1 "no results: $(tail -n 3 "$scratch"/job.*.log)"
    cat "$scratch"/results.[0-3] >"$scratch/all"
    check "$scratch/all"
    say "Slurm: $prompts prompts, each answered once"
}

by_parallel
by_slurm
