"""A Slurm of two nodes on this machine, from the distribution's packages, for tests and pages.

It has a partition `low`, whose jobs those of the partition `high` preempt. Everything it writes
lies in one folder, and it listens on the loopback address alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")
#: Why there is none, for tests that are skipped.
MISSING = "needs root and Debian's packages slurm-wlm and munge"
_CONF = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=16 RealMemory=64000
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=16 RealMemory=64000
PartitionName=low Nodes=node1,node2 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=high Nodes=node1,node2 PriorityTier=10 PreemptMode=OFF
"""
_PATIENCE = 120.0


def available() -> bool:
    """Return whether a Slurm can be started here."""
    # Debian keeps the daemons where only root's PATH finds them.
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return os.geteuid() == 0 and all(shutil.which(name, path=path) for name in PROGRAMS)


@contextlib.contextmanager
def one_machine_slurm(folder: Path, grace: int = 60) -> Iterator[dict[str, str]]:
    """Start it, and end it with the block.

    Args:
        folder: For everything that it writes; its path must be short, for a socket lies there.
        grace: Seconds that a preempted job has before it is killed.

    Yields:
        The environment in which `sbatch`, `srun` and so on find it.

    Raises:
        TimeoutError: It does not start.
    """
    (folder / "state").mkdir(parents=True)
    ports = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    conf = _CONF.format(host=host, ports=ports, folder=folder, grace=grace)
    (folder / "slurm.conf").write_text(conf)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SUBMITIT_"))}
    env |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{env['PATH']}:/usr/sbin:/sbin"}
    # Names of nodes that no name server knows: where the first process waits for the others.
    env["MASTER_ADDR"] = "127.0.0.1"
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munged += [f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"]
    munged += [f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log"]
    daemons = [munged, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", f"node{n}"] for n in (1, 2))]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for words in daemons:
            log = (folder / f"{words[0]}.out").open("ab")
            started.append(subprocess.Popen(words, env=env, stdout=log, stderr=log))
            if words is munged:
                _wait((folder / "munge.socket").exists)
        _wait(lambda: _idle(env) == 2)
        yield env
    finally:
        subprocess.run(["scancel", "--user=root"], env=env, check=False, timeout=60)
        with contextlib.suppress(TimeoutError):
            _wait(lambda: not _ask(env, "squeue", "-h"))
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _idle(env: dict[str, str]) -> int:
    return _ask(env, "sinfo", "-h", "-N", "-p", "low", "-o", "%t").count("idle")


def _ask(env: dict[str, str], *words: str) -> list[str]:
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.split()


def _wait(condition) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("Slurm did not start; see its logs")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
