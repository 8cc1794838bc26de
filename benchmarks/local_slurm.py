"""A Slurm of two nodes on this computer, for the length of a `with` block, and what a user types there.

Everything lies in one folder: the daemons of Debian's slurmctld, slurmd and munge are started with a configuration, a
key and sockets of their own, and end with the block. Needs root, and a host name that this computer resolves; the first
node carries it, so that the second finds it. A device that takes anything stands in for a GPU.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
HOST = socket.gethostname()
SECOND = f"{HOST}-second"
"""Name of the second node, after the first one's in every sorted list: the script's meeting point is the first."""
CPUS = 8
"""CPUs that each node claims to have; training is told to use one thread."""
LIMIT = 240.0
"""Seconds that anything may take."""
CONFIGURATION = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldPort={ports[0]}
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
ReturnToService=2
GresTypes=gpu
MpiDefault=none
KillWait=60
MailProg=/bin/true
NodeName={host} NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory=2000 Gres=gpu:1
NodeName={second} NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} RealMemory=2000 Gres=gpu:1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE PreemptMode=REQUEUE PriorityTier=1
PartitionName=grace Nodes=ALL MaxTime=INFINITE PreemptMode=CANCEL GraceTime=60 PriorityTier=1
PartitionName=cancel Nodes=ALL MaxTime=INFINITE PreemptMode=CANCEL PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PreemptMode=OFF PriorityTier=10
"""


class LocalSlurm:
    """Two nodes, a controller, and a munge daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> LocalSlurm:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _start(self) -> None:
        """Write the configuration, start the daemons, wait for both nodes. Raises SystemExit where they cannot be."""
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            raise SystemExit(f"not installed: {', '.join(missing)} (Debian: apt install slurmctld slurmd munge)")
        if os.geteuid() != 0:
            raise SystemExit("Slurm's daemons need root here")
        folder = self.folder
        for name in ("state", HOST, SECOND):
            (folder / name).mkdir()
        text = CONFIGURATION.format(host=HOST, second=SECOND, folder=folder, ports=free_ports(3), cpus=CPUS)
        (folder / "slurm.conf").write_text(text)
        os.mknod(folder / "gpu", 0o020666, os.makedev(1, 3))
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu\n")
        (folder / "cgroup.conf").write_text("")
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "--foreground", "--force", f"--socket={folder}/munge.sock", *files)
        self.until(lambda: (folder / "munge.sock").exists(), "munged does not start")
        self._daemon("slurmctld", "-D")
        self.until(lambda: "UP" in self.tell("scontrol", "ping"), "slurmctld does not answer")
        self._daemon("slurmd", "-D", "-N", HOST)
        self._daemon("slurmd", "-D", "-N", SECOND)
        self.until(lambda: self.tell("sinfo", "-h", "-o", "%T %D") == "idle 2", "not both nodes are there")

    def _daemon(self, *words: str) -> None:
        """Start a program in a session of its own, which Ctrl-C does not reach: `_stop` ends them in order."""
        with (self.folder / "daemons.txt").open("ab") as told:
            self.daemons.append(
                subprocess.Popen(words, stdout=told, stderr=told, env=self.environment, start_new_session=True)
            )

    def _stop(self) -> None:
        """Cancel what runs, end the daemons, and kill what they have left."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C would leave daemons behind
        if len(self.daemons) > 2:
            self.tell("scancel", "--signal=KILL", "--full", "--user=root")
            self.tell("scancel", "--user=root")
            limit = time.monotonic() + 20
            while self.tell("squeue", "-h") and time.monotonic() < limit:
                time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.daemons.clear()

    def processes(self, *marks: str) -> list[int]:
        """Return the processes that live in this Slurm and have all of `marks` in their environment."""
        wanted = {f"SLURM_CONF={self.folder}/slurm.conf".encode(), *(mark.encode() for mark in marks)}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
            except OSError:
                continue
        return [process for process in sorted(found) if process != os.getpid()]

    def tell(self, *words: str) -> str:
        """Run a command and return its output."""
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=self.environment)
        return done.stdout.strip()

    def submit(self, script: Path, run: Path, limits: list[str], words: list[str], **variables: str) -> str:
        """Put a job into the queue and return its number."""
        output = f"--output={self.folder}/%j.txt"
        done = subprocess.run(
            ["sbatch", "--parsable", f"--chdir={self.folder}", output, *limits, str(script), *words],
            capture_output=True,
            text=True,
            timeout=60,
            env={**self.environment, "RUN": str(run), "OMP_NUM_THREADS": "1", **variables},
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return done.stdout.strip()

    def output(self, job: str) -> str:
        """Return what a job has written so far."""
        file = self.folder / f"{job}.txt"
        return file.read_text() if file.exists() else ""

    def fact(self, job: str, name: str) -> str:
        """Return a field of `scontrol show job`."""
        return (re.findall(rf"\b{name}=(\S*)", self.tell("scontrol", "show", "job", job)) or [""])[0]

    def wait(self, job: str, *states: str) -> str:
        """Wait until a job is in one of `states`, and return it. Raises SystemExit after `LIMIT`."""
        self.until(lambda: self.fact(job, "JobState") in states, f"job {job} is not {' or '.join(states)}", job)
        return self.fact(job, "JobState")

    def until(self, there: Callable[[], bool], problem: str, job: str | None = None) -> None:
        """Wait for something. Raises SystemExit with what is known after `LIMIT`."""
        limit = time.monotonic() + LIMIT
        while not there():
            if time.monotonic() > limit:
                daemons = (self.folder / "daemons.txt").read_text()[-2000:]
                raise SystemExit(f"{problem}\n{self.tell('squeue')}\n{self.output(job) if job else daemons}")
            time.sleep(0.1)

    @property
    def version(self) -> str:
        """Slurm's version."""
        return self.tell("scontrol", "--version").split()[-1]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
