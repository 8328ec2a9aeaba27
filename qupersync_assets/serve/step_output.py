"""Keeps what steps write to stdout and stderr in files of the instance, where the UI finds it.

Dagster's own class starts four processes per step, two of them Python, which copy the files to the output of the
process. Here a thread of the step does it.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import dagster as dg
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager

_COPY_SECONDS = 1.0
_CHUNK = 65536


class StepOutput(LocalComputeLogManager):
    """Output in the storage folder of the instance."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return the configuration: none."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "StepOutput":
        """Return the output of an instance, which registers itself."""
        return cls("", inst_data=inst_data)

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Use the storage folder of an instance."""
        super().register_instance(instance)
        self._base_dir = instance.storage_directory()

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Write the output of this process to files, and copy it to where it went before."""
        with ExitStack() as stack:
            for stream, kind in ((sys.stdout, ComputeIOType.STDOUT), (sys.stderr, ComputeIOType.STDERR)):
                path = self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])
                stack.enter_context(_captured(stream, Path(path)))
            yield CapturedLogContext(log_key)
        path = self.complete_artifact_path(log_key)  # type: ignore[no-untyped-call]
        Path(path).touch()  # the UI asks no more


@contextmanager
def _captured(stream: IO[str], path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream.flush()
    number = stream.fileno()
    before = os.dup(number)
    with path.open("ab") as file, path.open("rb") as written:
        written.seek(0, os.SEEK_END)
        ended = threading.Event()

        def copy() -> None:
            last = False
            while not last:
                last = ended.wait(_COPY_SECONDS)
                while chunk := written.read(_CHUNK):
                    os.write(before, chunk)

        copier = threading.Thread(target=copy, name="step-output", daemon=True)
        copier.start()
        os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            stream.flush()
            os.dup2(before, number)
            ended.set()
            copier.join()
            os.close(before)
