"""Machines on which `pi05 doctor` finds something, and what it says there: every finding, word for word.

`tests/unit/doctor/test_examine.py` holds the two together, and sees to it that no finding is missing here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pi05.doctor.facts import (
    Answer,
    Cards,
    Device,
    Disk,
    Facts,
    Interpreter,
    Machine,
    Network,
    Package,
    Rendering,
    System,
    Torch,
    Trackers,
    Video,
)
from pi05.doctor.torch_builds import Gpu

RTX_5090 = Gpu("NVIDIA GeForce RTX 5090", (12, 0), "575.57.08")
H200 = Gpu("NVIDIA H200", (9, 0), "580.65.06")
OLD_H200 = Gpu("NVIDIA H200", (9, 0), "550.54.15")
V100 = Gpu("Tesla V100-SXM2-16GB", (7, 0), "580.65.06")
CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
CUDA_12_6 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
MACHINE = Machine(host="lab1", python=".venv/bin/python", distribution="ubuntu")
CONTAINER = replace(MACHINE, container=True)
PLAIN = replace(MACHINE, distribution="arch")
ON_CPU = Torch(version="2.13.0+cpu")
ON_H200 = Torch(
    version="2.13.0+cu130",
    cuda="13.0",
    architectures=CUDA_13,
    devices=(Device(name="NVIDIA H200", capability=(9, 0)),),
    nccl="2.28.9",
)
TWO_H200 = replace(ON_H200, devices=ON_H200.devices * 2)
TWO_CARDS = Cards(gpus=(H200, H200))
GIB = 2**30
SILENT = Answer(fault="no answer within 5 s")
GOOD, REFUSED = Answer(status=200), Answer(status=401)
MIRROR = "https://hf-mirror.com"
ONLINE = Network(
    hub=GOOD, tokenizer=GOOD, token="HF_TOKEN", login=Answer(status=200, data={"name": "me", "role": "read"})
)


def healthy(**changes: Any) -> Facts:
    """Return the facts of a machine without a GPU on which all is well, with changes."""
    facts = Facts(machine=MACHINE, interpreter=Interpreter(), cards=Cards(), torch=ON_CPU, system=System())
    return replace(facts, **changes)


def with_gpu(**changes: Any) -> Facts:
    """Return the facts of a machine with an H200 on which all is well, with changes."""
    return healthy(**{"cards": Cards(gpus=(H200,)), "torch": ON_H200} | changes)


def python(**changes: Any) -> Facts:
    """Return the facts of a machine whose Python differs."""
    return healthy(interpreter=Interpreter(**changes))


def disk(role: str, gpu: bool = True, **changes: Any) -> Facts:
    """Return the facts of a machine with one disk."""
    folder = Disk(role=role, path="runs", **{"free": 900 * GIB} | changes)
    return (with_gpu if gpu else healthy)(system=System(disks=(folder,)))


def hub(**changes: Any) -> Facts:
    """Return the facts of a machine whose way to the hub differs."""
    return healthy(network=replace(ONLINE, **changes))


def trackers(**changes: Any) -> Facts:
    """Return the facts of a machine with trackers."""
    return healthy(trackers=Trackers(**changes))


def rendering(machine: Machine = MACHINE, **changes: Any) -> Facts:
    """Return the facts of a machine that draws."""
    return healthy(machine=machine, rendering=Rendering(**changes))


MACHINES: list[tuple[str, Facts, str]] = [
    (
        "gpu.none",
        healthy(),
        """\
note     gpu        no GPU: training on the CPU is for the demo only""",
    ),
    (
        "gpu.found",
        with_gpu(cards=TWO_CARDS),
        """\
ok       gpu        2 x NVIDIA H200, driver 580.65.06""",
    ),
    (
        "gpu.no_bfloat16",
        with_gpu(
            cards=Cards(gpus=(V100,)),
            torch=replace(
                ON_H200,
                version="2.10.0+cu126",
                cuda="12.6",
                architectures=CUDA_12_6,
                devices=(Device(name=V100.name, capability=(7, 0)),),
            ),
        ),
        """\
note     gpu        GPU 0 (Tesla V100-SXM2-16GB), compute capability 7.0, does
                    not calculate in bfloat16
                    a run takes several times as long as on newer GPUs, and is
                    not tested there
                    to do: pi05 train --precision=float32""",
    ),
    (
        "gpu.no_peer",
        with_gpu(torch=replace(TWO_H200, without_peer=((0, 1), (1, 0)))),
        """\
note     gpu        GPUs 0 and 1 do not reach each other's memory, as is usual
                    for GeForce cards
                    a run on several GPUs sends gradients through the memory of
                    the CPU""",
    ),
    (
        "driver.broken",
        healthy(cards=Cards(smi="Failed to initialize NVML: Driver/library version mismatch")),
        """\
error    driver     nvidia-smi fails: Failed to initialize NVML: Driver/library
                    version mismatch
                    a run finds no GPU
                    to do: sudo reboot  # the driver was updated, and the old one is still loaded""",
    ),
    (
        "driver.broken",
        healthy(cards=Cards(smi="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")),
        """\
error    driver     nvidia-smi fails: NVIDIA-SMI has failed because it couldn't
                    communicate with the NVIDIA driver.
                    a run finds no GPU
                    to do: sudo apt-get install nvidia-driver-580 && sudo reboot""",
    ),
    (
        "driver.missing",
        healthy(cards=Cards(on_bus=2)),
        """\
warning  driver     2 NVIDIA GPUs are in this machine, and nvidia-smi is not
                    a run trains on the CPU, which is for the demo only
                    to do: sudo apt-get install nvidia-driver-580 && sudo reboot""",
    ),
    (
        "driver.missing",
        healthy(cards=Cards(on_bus=2), machine=CONTAINER),
        """\
warning  driver     2 NVIDIA GPUs are in this machine, and nvidia-smi is not
                    a run trains on the CPU, which is for the demo only
                    to do: docker run --gpus all  # start the container with its GPUs""",
    ),
    (
        "driver.old",
        with_gpu(cards=Cards(gpus=(OLD_H200,))),
        """\
error    driver     torch 2.13.0+cu130 is built for CUDA 13.0, which needs
                    driver 580 or newer; the driver is 550.54.15
                    a run fails at the first use of the GPU
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu126""",
    ),
    (
        "driver.old",
        with_gpu(cards=Cards(gpus=(RTX_5090,))),
        """\
error    driver     torch 2.13.0+cu130 is built for CUDA 13.0, which needs
                    driver 580 or newer; the driver is 575.57.08
                    a run fails at the first use of the GPU
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu128""",
    ),
    (
        "driver.no_build",
        with_gpu(
            cards=Cards(gpus=(replace(RTX_5090, driver="560.28.03"),)),
            torch=replace(ON_H200, version="2.10.0+cu128", cuda="12.8"),
        ),
        """\
error    driver     this GPU needs driver 570 or newer; the driver is 560.28.03
                    a run fails in the first kernel
                    to do: sudo apt-get install nvidia-driver-580-open && sudo reboot  # then: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu130""",  # noqa: E501
    ),
    (
        "driver.no_build",
        with_gpu(cards=Cards(gpus=(V100, replace(RTX_5090, driver="580.65.06")))),
        """\
error    driver     no build of torch has kernels for both; the driver is
                    580.65.06
                    a run fails in the first kernel
                    to do: show it GPUs of one kind: export CUDA_VISIBLE_DEVICES=NUMBERS""",
    ),
    (
        "torch.cpu",
        healthy(),
        """\
ok       torch      2.13.0+cpu, on the CPU""",
    ),
    (
        "torch.ok",
        with_gpu(),
        """\
ok       torch      2.13.0+cu130, CUDA 13.0: a kernel ran on each GPU""",
    ),
    (
        "torch.ok",
        with_gpu(torch=replace(ON_H200, kernels=False)),
        """\
ok       torch      2.13.0+cu130, CUDA 13.0: it has kernels for each GPU""",
    ),
    (
        "torch.no_compiler",
        with_gpu(interpreter=Interpreter(why_no_triton="a C compiler is missing (gcc or clang)")),
        """\
note     torch      nothing can be compiled for the GPU: a C compiler is missing
                    (gcc or clang)
                    a run takes its layers, and the low-memory update, operation
                    by operation: slower, and with more memory
                    to do: sudo apt-get install gcc python3-dev && unset CC""",
    ),
    (
        "torch.no_compiler",
        with_gpu(interpreter=Interpreter(why_no_triton="Python.h is missing (Debian: python3-dev)"), machine=PLAIN),
        """\
note     torch      nothing can be compiled for the GPU: Python.h is missing
                    (Debian: python3-dev)
                    a run takes its layers, and the low-memory update, operation
                    by operation: slower, and with more memory
                    to do: install gcc and the headers of this Python; unset CC""",
    ),
    (
        "torch.no_compiler",
        with_gpu(interpreter=Interpreter(why_no_triton="the package triton is missing")),
        """\
note     torch      nothing can be compiled for the GPU: the package triton is
                    missing
                    a run takes its layers, and the low-memory update, operation
                    by operation: slower, and with more memory
                    to do: .venv/bin/python -m pip install triton""",
    ),
    (
        "torch.import",
        healthy(
            torch=Torch(fault="ImportError: libcudart.so.13: cannot open shared object file: No such file or directory")
        ),
        """\
error    torch      torch cannot be imported: ImportError: libcudart.so.13:
                    cannot open shared object file: No such file or directory
                    a run fails at its start
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cpu""",
    ),
    (
        "torch.import",
        healthy(torch=Torch(fault="killed by SIGSEGV at stage 'its import'"), machine=replace(MACHINE, installer="uv")),
        """\
error    torch      torch cannot be imported: killed by SIGSEGV at stage 'its
                    import'
                    a run fails at its start
                    to do: uv pip install --python .venv/bin/python --reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cpu""",
    ),
    (
        "torch.hangs",
        with_gpu(torch=Torch(hangs_at="its import")),
        """\
error    torch      torch does not come back from its import
                    a run hangs at its start, without a message
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu130""",
    ),
    (
        "torch.hangs",
        with_gpu(torch=Torch(hangs_at="the start of CUDA")),
        """\
error    torch      torch does not come back from the start of CUDA
                    a run hangs at its start, without a message
                    to do: nvidia-smi  # names the processes that hold the GPU: end them, or restart""",
    ),
    (
        "torch.old",
        with_gpu(torch=replace(ON_H200, version="2.6.0+cu124", cuda="12.4")),
        """\
error    torch      torch 2.6.0+cu124, and pi05 needs 2.7 or newer
                    a run fails at the first function that this torch has not
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu130""",
    ),
    (
        "torch.cpu_build",
        with_gpu(torch=ON_CPU),
        """\
error    torch      torch 2.13.0+cpu is a build without CUDA, and there is a GPU
                    a run trains on the CPU, or says that there is no device
                    cuda
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu130""",
    ),
    (
        "torch.no_kernels",
        with_gpu(
            cards=Cards(gpus=(RTX_5090,)),
            torch=replace(
                ON_H200,
                version="2.7.1+cu126",
                cuda="12.6",
                architectures=CUDA_12_6,
                devices=(Device(name=RTX_5090.name, capability=(12, 0), fault="no kernel image is available"),),
            ),
        ),
        """\
error    torch      torch 2.7.1+cu126 has no kernels for GPU 0 (NVIDIA GeForce
                    RTX 5090), compute capability 12.0: it was built for sm_50,
                    sm_60, sm_70, sm_75, sm_80, sm_86, sm_90
                    a run fails with 'no kernel image is available'
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu128""",
    ),
    (
        "torch.kernel",
        with_gpu(
            torch=replace(
                ON_H200,
                devices=(
                    Device(
                        name="NVIDIA H200", capability=(9, 0), fault="CUDA error: uncorrectable ECC error encountered"
                    ),
                ),
            )
        ),
        """\
error    torch      a kernel fails on GPU 0 (NVIDIA H200): CUDA error:
                    uncorrectable ECC error encountered
                    a run fails in its first step
                    to do: nvidia-smi -q -d ECC -i 0  # errors there: the card is at fault; none: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu130""",  # noqa: E501
    ),
    (
        "cuda.start",
        with_gpu(torch=replace(ON_H200, devices=(), start="CUDA unknown error")),
        """\
error    cuda       CUDA does not start: CUDA unknown error
                    a run trains on the CPU, or says that there is no device
                    cuda
                    to do: sudo modprobe nvidia_uvm  # or restart""",
    ),
    (
        "cuda.hidden",
        with_gpu(cards=Cards(gpus=(H200,), visible=""), torch=replace(ON_H200, devices=(), start="torch sees no GPU")),
        """\
error    cuda       CUDA_VISIBLE_DEVICES= hides every GPU
                    a run trains on the CPU, or says that there is no device
                    cuda
                    to do: unset CUDA_VISIBLE_DEVICES""",
    ),
    (
        "nccl.ok",
        with_gpu(torch=TWO_H200),
        """\
ok       nccl       NCCL 2.28.9: a sum over 2 GPUs is right""",
    ),
    (
        "nccl.missing",
        with_gpu(torch=replace(TWO_H200, nccl=None)),
        """\
error    nccl       this build of torch has no NCCL
                    a run cannot use more than one GPU
                    to do: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cu130""",
    ),
    (
        "nccl.sum",
        with_gpu(torch=replace(TWO_H200, sum_fault="NCCL Error 1: unhandled cuda error")),
        """\
error    nccl       a sum over all GPUs fails: NCCL Error 1: unhandled cuda
                    error
                    a run on several GPUs fails or hangs at its start
                    to do: export NCCL_P2P_DISABLE=1  # NCCL_DEBUG=INFO pi05 doctor tells more""",
    ),
    (
        "nccl.hangs",
        with_gpu(torch=Torch(hangs_at="a sum over all GPUs")),
        """\
error    nccl       torch does not come back from a sum over all GPUs
                    a run hangs at its start, without a message
                    to do: export NCCL_P2P_DISABLE=1""",
    ),
    (
        "python.ok",
        healthy(),
        """\
ok       python     3.12.4, .venv/bin/python""",
    ),
    (
        "python.version",
        python(version=(3, 10, 12)),
        """\
error    python     Python 3.10.12, and pi05 supports 3.11 to 3.13
                    a run may fail at any import
                    to do: python3.12 -m venv .venv && . .venv/bin/activate && pip install .""",
    ),
    (
        "python.shared",
        python(virtual=False),
        """\
note     python     Python 3.12.4, and no virtual environment: packages are
                    shared with all of this Python's programs
                    a run changes with what others install
                    to do: python3 -m venv .venv && . .venv/bin/activate""",
    ),
    (
        "packages.ok",
        python(packages=(Package(name="numpy", oldest="2.0", found="2.4.6"),)),
        """\
ok       packages   all 1 that pi05 needs""",
    ),
    (
        "packages.wrong",
        python(
            packages=(Package(name="numpy", oldest="2.0", found="1.26.4"), Package(name="av", oldest="14", found=None))
        ),
        """\
error    packages   numpy is 1.26.4, av is missing
                    a run fails where the package is first used
                    to do: .venv/bin/python -m pip install 'numpy>=2.0' 'av>=14'""",
    ),
    (
        "packages.sources",
        python(sources="/home/me/pi05"),
        """\
warning  packages   pi05 is not installed in this Python; it runs from
                    /home/me/pi05
                    a run fails where a package that it needs is missing
                    to do: .venv/bin/python -m pip install /home/me/pi05""",
    ),
    (
        "leftovers.lerobot",
        python(editable_lerobot="/home/me/lerobot"),
        """\
warning  leftovers  LeRobot is installed here in editable form, from
                    /home/me/lerobot
                    a run changes with that folder, and LeRobot's pins exchange
                    torch, av and huggingface-hub under pi05
                    to do: .venv/bin/python -m pip uninstall -y lerobot  # and give LeRobot an environment of its own""",  # noqa: E501
    ),
    (
        "leftovers.two_torches",
        python(torch_folders=("/venv/site-packages/torch", "/usr/lib/python3/dist-packages/torch")),
        """\
error    leftovers  2 torch installations: /venv/site-packages/torch,
                    /usr/lib/python3/dist-packages/torch
                    a run loads libraries of one into the other: undefined
                    symbol, or a crash without a word
                    to do: .venv/bin/python -m pip uninstall -y torch  # until there is none; then: .venv/bin/python -m pip install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/cpu""",  # noqa: E501
    ),
    (
        "leftovers.two_torches",
        python(
            torch_folders=("/home/me/.local/lib/torch", "/venv/site-packages/torch"), user_site="/home/me/.local/lib"
        ),
        """\
error    leftovers  2 torch installations: /home/me/.local/lib/torch,
                    /venv/site-packages/torch
                    a run loads libraries of one into the other: undefined
                    symbol, or a crash without a word
                    to do: export PYTHONNOUSERSITE=1""",
    ),
    (
        "leftovers.python_path",
        python(python_path=(("/opt/ros/lib", ("numpy",)),)),
        """\
warning  leftovers  PYTHONPATH has /opt/ros/lib, whose numpy is imported in the
                    place of the installed one
                    a run uses versions that nobody chose for it
                    to do: unset PYTHONPATH""",
    ),
    (
        "leftovers.python_path_set",
        python(python_path=(("/home/me/pi05/src", ("pi05",)), ("/opt/tools", ()))),
        """\
note     leftovers  PYTHONPATH is set: /home/me/pi05/src:/opt/tools""",
    ),
    (
        "leftovers.library_path",
        with_gpu(
            interpreter=Interpreter(
                library_path=(
                    (
                        "/usr/local/cuda-12.2/lib64",
                        ("libcublas.so.12", "libcudart.so.12", "libcudnn.so.9", "libnccl.so.2"),
                    ),
                )
            )
        ),
        """\
warning  leftovers  LD_LIBRARY_PATH has /usr/local/cuda-12.2/lib64 with
                    libcublas.so.12, libcudart.so.12, libcudnn.so.9 and 1 more,
                    loaded in the place of torch's own, for CUDA 13.0
                    a run fails at the import of torch, or in the first kernel,
                    or uses an older cuDNN or NCCL
                    to do: unset LD_LIBRARY_PATH""",
    ),
    (
        "leftovers.library_path",
        healthy(
            torch=Torch(fault="undefined symbol: ncclCommWindowRegister"),
            interpreter=Interpreter(library_path=(("/opt/nccl", ("libnccl.so.2",)),)),
        ),
        """\
warning  leftovers  LD_LIBRARY_PATH has /opt/nccl with libnccl.so.2, loaded in
                    the place of torch
                    a run fails at the import of torch, or in the first kernel,
                    or uses an older cuDNN or NCCL
                    to do: unset LD_LIBRARY_PATH""",
    ),
    (
        "video.ok",
        healthy(
            video=Video(version="18.1.0", ffmpeg="62.28", decoders={"H.264": "h264", "HEVC": "hevc", "AV1": "libdav1d"})
        ),
        """\
ok       video      PyAV 18.1.0 (libavcodec 62.28) decodes H.264, HEVC, AV1""",
    ),
    (
        "video.import",
        healthy(video=Video(fault="ImportError: libavcodec.so.61: cannot open shared object file")),
        """\
error    video      PyAV cannot be imported: ImportError: libavcodec.so.61:
                    cannot open shared object file
                    a run cannot read any data set
                    to do: .venv/bin/python -m pip install --force-reinstall 'av>=14'""",
    ),
    (
        "video.decoders",
        healthy(video=Video(version="14.0.0", ffmpeg="59.37", decoders={"H.264": "h264", "HEVC": "hevc", "AV1": None})),
        """\
warning  video      PyAV 14.0.0 (libavcodec 59.37) has no decoder on the CPU for
                    AV1
                    a run fails on data sets whose videos are of that kind
                    to do: .venv/bin/python -m pip install --force-reinstall 'av>=14'  # the wheels of PyPI bring their own FFmpeg""",  # noqa: E501
    ),
    (
        "rendering.tabletop_ok",
        rendering(),
        """\
ok       rendering  the table-top simulator draws""",
    ),
    (
        "rendering.tabletop",
        rendering(tabletop="ImportError: numpy.core.multiarray failed to import"),
        """\
error    rendering  the table-top simulator draws nothing: ImportError:
                    numpy.core.multiarray failed to import
                    a run can neither collect nor evaluate there, and the
                    demonstration fails
                    to do: .venv/bin/python -m pip install --force-reinstall 'numpy>=2.0' 'pillow>=10'""",
    ),
    (
        "rendering.mujoco_ok",
        rendering(mujoco="3.2.3", drawn_by="egl", chosen="egl"),
        """\
ok       rendering  MuJoCo 3.2.3 draws with MUJOCO_GL=egl""",
    ),
    (
        "rendering.mujoco_way",
        rendering(mujoco="3.2.3", drawn_by="osmesa", faults={"egl": "EGL_NOT_INITIALIZED"}),
        """\
ok       rendering  MuJoCo 3.2.3 draws with osmesa; export MUJOCO_GL=osmesa
                    chooses it for every program""",
    ),
    (
        "rendering.mujoco",
        rendering(mujoco="3.2.3", faults={"egl": "EGL_NOT_INITIALIZED", "osmesa": "no libOSMesa"}),
        """\
error    rendering  MuJoCo 3.2.3 draws nothing (egl: EGL_NOT_INITIALIZED;
                    osmesa: no libOSMesa)
                    a run cannot be evaluated in LIBERO
                    to do: sudo apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libosmesa6 libglvnd0 libopengl0""",  # noqa: E501
    ),
    (
        "rendering.mujoco",
        rendering(PLAIN, mujoco="3.2.3", faults={"egl": "EGL_NOT_INITIALIZED", "osmesa": "no libOSMesa"}),
        """\
error    rendering  MuJoCo 3.2.3 draws nothing (egl: EGL_NOT_INITIALIZED;
                    osmesa: no libOSMesa)
                    a run cannot be evaluated in LIBERO
                    to do: install Mesa's libEGL and libOSMesa with the package manager of this system""",
    ),
    (
        "rendering.mujoco",
        rendering(mujoco="3.2.3", chosen="glfw", faults={"glfw": "no DISPLAY"}),
        """\
error    rendering  MuJoCo 3.2.3 draws nothing (glfw: no DISPLAY)
                    a run cannot be evaluated in LIBERO
                    to do: unset MUJOCO_GL""",
    ),
    (
        "shm.ok",
        with_gpu(system=System(shared_memory=64 * GIB)),
        """\
ok       shm        /dev/shm has 64.0 GiB""",
    ),
    (
        "shm.small",
        with_gpu(machine=CONTAINER, cards=TWO_CARDS, torch=TWO_H200, system=System(shared_memory=64 * 2**20)),
        """\
warning  shm        /dev/shm has 64 MiB
                    a run on several GPUs ends with an NCCL error, or hangs
                    to do: docker run --shm-size=8g  # start the container again""",
    ),
    (
        "shm.small",
        with_gpu(cards=TWO_CARDS, torch=TWO_H200, system=System(shared_memory=None)),
        """\
warning  shm        /dev/shm has 0 MiB
                    a run on several GPUs ends with an NCCL error, or hangs
                    to do: sudo mount -o remount,size=8G /dev/shm""",
    ),
    (
        "files.ok",
        healthy(),
        """\
ok       files      65,536 files may be open at once""",
    ),
    (
        "files.few",
        healthy(system=System(open_files=(1024, 1048576))),
        """\
warning  files      1024 files may be open at once
                    a run on a data set of many videos ends with 'too many open
                    files'
                    to do: ulimit -n 65536""",
    ),
    (
        "files.few",
        healthy(system=System(open_files=(1024, 1024))),
        """\
warning  files      1024 files may be open at once
                    a run on a data set of many videos ends with 'too many open
                    files'
                    to do: echo '* - nofile 65536' | sudo tee -a /etc/security/limits.conf  # then log in again""",
    ),
    (
        "disk.ok",
        disk("output", speed=1200000000.0),
        """\
ok       disk       output: runs has 900 GiB free, takes 1,200 MB/s""",
    ),
    (
        "disk.ok",
        disk("temporary", free=2 * GIB),
        """\
ok       disk       temporary: runs has 2.0 GiB free""",
    ),
    (
        "disk.full",
        disk("output", free=20 * GIB),
        """\
warning  disk       output: runs has 20.0 GiB free, wanted are 60.0 GiB
                    a run ends when the disk is full
                    to do: pi05 train --output_dir=FOLDER  # on a larger, local disk""",
    ),
    (
        "disk.full",
        disk("frame cache", gpu=False, free=GIB // 2),
        """\
warning  disk       frame cache: runs has 512 MiB free, wanted are 1.0 GiB
                    a run ends when the disk is full
                    to do: export PI05_CACHE=FOLDER  # on a larger, local disk""",
    ),
    (
        "disk.slow",
        disk("output", speed=40000000.0),
        """\
warning  disk       output: runs takes 40 MB/s
                    a run waits 17 minutes for each checkpoint of the full
                    network
                    to do: pi05 train --output_dir=FOLDER  # on a larger, local disk""",
    ),
    (
        "disk.unwritable",
        disk("downloads", fault="Read-only file system"),
        """\
error    disk       downloads: runs cannot be written: Read-only file system
                    a run fails when it writes there
                    to do: export HF_HOME=FOLDER  # on a larger disk""",
    ),
    (
        "hub.ok",
        hub(),
        """\
ok       hub        https://huggingface.co answers""",
    ),
    (
        "hub.login",
        hub(),
        """\
ok       hub        me, a token with role read""",
    ),
    (
        "tokenizer.ok",
        hub(),
        """\
ok       tokenizer  PaliGemma's tokenizer may be downloaded""",
    ),
    (
        "tokenizer.local",
        hub(local_tokenizer="paligemma_model", tokenizer=REFUSED),
        """\
ok       tokenizer  in paligemma_model; no access to the hub is needed for it""",
    ),
    (
        "tokenizer.absent",
        hub(offline="HF_HUB_OFFLINE", hub=None, tokenizer=None, login=None),
        """\
note     tokenizer  PaliGemma's tokenizer is not here
                    a run from a base of LeRobot or openpi needs it; the
                    packaged base brings its own
                    to do: pi05 fetch tokenizer""",
    ),
    (
        "tokenizer.gated",
        hub(token=None, login=None, tokenizer=REFUSED),
        """\
warning  tokenizer  PaliGemma's tokenizer is gated, and there is no login
                    a run from a base of LeRobot or openpi needs it; the
                    packaged base brings its own
                    to do: hf auth login  # after accepting the licence at https://huggingface.co/google/paligemma-3b-pt-224""",
    ),
    (
        "tokenizer.licence",
        hub(tokenizer=Answer(status=403)),
        """\
warning  tokenizer  PaliGemma's tokenizer is refused (status 403), with the
                    token from HF_TOKEN
                    a run from a base of LeRobot or openpi needs it; the
                    packaged base brings its own
                    to do: accept the licence at https://huggingface.co/google/paligemma-3b-pt-224; a fine-grained token needs access to gated repositories""",  # noqa: E501
    ),
    (
        "tokenizer.not_served",
        hub(endpoint=MIRROR, tokenizer=Answer(status=404)),
        """\
warning  tokenizer  https://hf-mirror.com does not serve PaliGemma's tokenizer:
                    status 404
                    a run from a base of LeRobot or openpi needs it; mirrors
                    often lack what is gated
                    to do: copy a folder with its tokenizer.json to paligemma_model/, or unset HF_ENDPOINT for this download""",  # noqa: E501
    ),
    (
        "hub.client",
        hub(client=False),
        """\
note     hub        the hub's client is not installed
                    a run neither downloads nor publishes
                    to do: .venv/bin/python -m pip install 'huggingface-hub>=1.33'""",
    ),
    (
        "hub.offline",
        hub(offline="--offline", hub=None, tokenizer=None, login=None),
        """\
note     hub        not asked: --offline is set""",
    ),
    (
        "hub.address",
        hub(endpoint="hf-mirror.com", hub=None, tokenizer=None, login=None),
        """\
error    hub        HF_ENDPOINT=hf-mirror.com is no address
                    a run downloads nothing
                    to do: export HF_ENDPOINT=https://huggingface.co""",
    ),
    (
        "hub.silent",
        hub(hub=SILENT, tokenizer=None, login=None),
        """\
warning  hub        https://huggingface.co cannot be reached: no answer within 5
                    s
                    a run downloads neither base, tokenizer nor data; with
                    folders of your own it does not need to
                    to do: export HF_ENDPOINT=https://hf-mirror.com""",
    ),
    (
        "hub.silent",
        hub(endpoint=MIRROR, hub=SILENT, directly=SILENT, tokenizer=None, login=None),
        """\
warning  hub        https://hf-mirror.com cannot be reached: no answer within 5
                    s
                    a run downloads neither base, tokenizer nor data; with
                    folders of your own it does not need to
                    to do: unset HF_ENDPOINT  # or name another mirror""",
    ),
    (
        "hub.page",
        hub(endpoint=MIRROR, hub=Answer(status=200, page=True)),
        """\
warning  hub        https://hf-mirror.com answers with a web page in the place
                    of data: a login page of the network, or no mirror
                    a run downloads web pages, and refuses them
                    to do: unset HF_ENDPOINT  # or name another mirror""",
    ),
    (
        "hub.busy",
        hub(hub=Answer(status=429)),
        """\
warning  hub        https://huggingface.co asks to come back later (status 429)
                    a run waits
                    to do: hf auth login  # who is known may ask more often""",
    ),
    (
        "hub.refuses",
        hub(hub=Answer(status=403)),
        """\
warning  hub        https://huggingface.co answers with status 403 for a public
                    repository
                    a run downloads neither base, tokenizer nor data; with
                    folders of your own it does not need to
                    to do: export HF_ENDPOINT=https://hf-mirror.com""",
    ),
    (
        "hub.no_token",
        hub(token=None, login=None),
        """\
note     hub        no login
                    a run downloads what is public, and publishes nothing
                    to do: hf auth login""",
    ),
    (
        "hub.token",
        hub(login=REFUSED),
        """\
warning  hub        the token from HF_TOKEN is refused (status 401)
                    a run downloads nothing that is gated or private, and
                    publishes nothing
                    to do: unset HF_TOKEN && hf auth login""",
    ),
    (
        "hub.token",
        hub(login=REFUSED, token="/home/me/.cache/huggingface/token"),
        """\
warning  hub        the token from /home/me/.cache/huggingface/token is refused
                    (status 401)
                    a run downloads nothing that is gated or private, and
                    publishes nothing
                    to do: hf auth login""",
    ),
    (
        "hub.login_unknown",
        hub(endpoint=MIRROR, login=Answer(status=404)),
        """\
note     hub        https://hf-mirror.com does not tell whose the token from
                    HF_TOKEN is""",
    ),
    (
        "proxy.blocks",
        hub(
            endpoint=MIRROR,
            hub=Answer(fault="Tunnel connection failed: 403 Forbidden"),
            directly=GOOD,
            proxies={"https_proxy": "http://proxy:3128", "no_proxy": "localhost"},
            tokenizer=None,
            login=None,
        ),
        """\
error    proxy      https://hf-mirror.com answers directly, and not through the
                    proxy (https_proxy=http://proxy:3128): Tunnel connection
                    failed: 403 Forbidden
                    a run downloads nothing
                    to do: export NO_PROXY=hf-mirror.com,$NO_PROXY""",
    ),
    (
        "proxy.socks",
        hub(socks=False, proxies={"ALL_PROXY": "socks5://127.0.0.1:1080"}),
        """\
error    proxy      a SOCKS proxy is set, and the hub's client cannot use one
                    without the package socksio
                    a run fails at every connection
                    to do: .venv/bin/python -m pip install 'httpx[socks]'""",
    ),
    (
        "wandb.absent",
        trackers(),
        """\
note     wandb      not installed
                    a run with --wandb.enable=true is refused
                    to do: .venv/bin/python -m pip install 'wandb>=0.19'""",
    ),
    (
        "wandb.mode",
        trackers(wandb=True, wandb_mode="offline"),
        """\
note     wandb      WANDB_MODE=offline
                    a run records metrics on this machine only""",
    ),
    (
        "wandb.login",
        trackers(wandb=True),
        """\
note     wandb      installed, no login for api.wandb.ai
                    a run with --wandb.enable=true records offline
                    to do: wandb login""",
    ),
    (
        "wandb.silent",
        trackers(wandb=True, wandb_login="WANDB_API_KEY", wandb_answer=SILENT),
        """\
warning  wandb      api.wandb.ai cannot be reached: no answer within 5 s
                    a run with --wandb.enable=true waits 20 s at its start, then
                    records offline
                    to do: pi05 train --wandb.mode=offline, and wandb sync later""",
    ),
    (
        "wandb.ok",
        trackers(wandb=True, wandb_login="/home/me/.netrc", wandb_answer=GOOD),
        """\
ok       wandb      login from /home/me/.netrc""",
    ),
    (
        "trackio.absent",
        trackers(),
        """\
note     trackio    not installed
                    a run has no live dashboard of its own
                    to do: .venv/bin/python -m pip install trackio""",
    ),
    (
        "trackio.login",
        trackers(trackio=True, trackio_space="me/runs"),
        """\
warning  trackio    TRACKIO_SPACE_ID=me/runs names a space of the hub, and there
                    is no login
                    a run cannot send its metrics there
                    to do: hf auth login, or unset TRACKIO_SPACE_ID for a local dashboard""",
    ),
    (
        "trackio.ok",
        trackers(trackio=True),
        """\
ok       trackio    installed, local""",
    ),
    (
        "trackio.ok",
        trackers(trackio=True, trackio_space="me/runs", hub_token=True),
        """\
ok       trackio    installed, sends to the space me/runs""",
    ),
]
"""A finding's name, a machine that has it, and how it reads there in 80 columns."""
