"""FFmpeg inside PyAV: which of the codecs that data sets come in it decodes on a CPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from pi05.doctor.facts import Video

SOFTWARE = {"H.264": ("h264",), "HEVC": ("hevc",), "AV1": ("libdav1d", "libaom-av1", "libgav1")}
"""Decoders by codec; FFmpeg's own `av1` needs a graphics card."""


def probe_video(load: Callable[[], Any] = lambda: importlib.import_module("av")) -> Video:
    """Ask PyAV for its decoders."""
    try:
        av = load()
    except Exception as error:  # a library that is missing or of another kind raises OSError, SystemError and more
        return Video(fault=f"{type(error).__name__}: {error}".splitlines()[0])
    known = set(av.codecs_available)
    libavcodec = av.library_versions.get("libavcodec", ())
    return Video(
        version=str(av.__version__),
        ffmpeg=".".join(map(str, libavcodec)),
        decoders={codec: next((n for n in names if n in known), None) for codec, names in SOFTWARE.items()},
    )
