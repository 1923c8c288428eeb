"""Files under a local folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from components.cxr.storage.atomic import PARTIAL, put_in_place, renamed_to
from components.cxr.storage.interface import ABSENT, StaleWriteError, Storage, Versioned, cannot_read

__all__ = ["LocalStorage"]

_LOCK = f"{PARTIAL}lock"
_OF_THE_DISK = "lost+found"
"""What mkfs puts at the top of a disk, for root alone."""


class LocalStorage(Storage):
    """A folder; writes go to a temporary name beside the target, to the disk, and are renamed."""

    folder: Path

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.uri = str(self.folder)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """As Storage's, without the disk's own lost+found.

        Raises:
            UserError: a folder or file that cannot be looked at.
        """
        found: dict[str, int] = {}
        try:
            _walk(str(self.folder / prefix), f"{prefix.strip('/')}/".lstrip("/"), found)
        except OSError as error:
            raise cannot_read("folder", self.uri, error) from None
        return dict(sorted(found.items()))

    def read(self, name: str) -> Versioned:
        data = (self.folder / name).read_bytes()
        return Versioned(data, _content_generation(data))

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            file.seek(start)
            return file.read(num_bytes)

    def stamp(self, name: str) -> tuple[int, int]:
        status = (self.folder / name).stat()
        return status.st_size, status.st_mtime_ns

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        target = self.folder / name
        with renamed_to(target) as partial, self._locked(if_generation is not None):
            partial.write_bytes(data)
            if if_generation is not None:
                found = self.read(name).generation if target.exists() else ABSENT
                if found != if_generation:
                    raise StaleWriteError(f"{self.uri}/{name}")
            put_in_place(partial, target)

    def upload(self, source: Path, name: str) -> None:
        with renamed_to(self.folder / name) as partial:
            shutil.copyfile(source, partial)
            put_in_place(partial, self.folder / name)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with renamed_to(self.folder / name) as partial:
            yield partial
            put_in_place(partial, self.folder / name)

    def remove_partials(self) -> None:
        for path in self.folder.rglob(f"{PARTIAL}*"):
            if path.name == _LOCK:
                continue
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by a writer that lives
                path.unlink()

    def download(self, name: str, target: Path) -> None:
        with renamed_to(target) as partial:
            shutil.copyfile(self.folder / name, partial)
            partial.replace(target)

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def child(self, name: str) -> Storage:
        return LocalStorage(self.folder / name)

    @contextlib.contextmanager
    def _locked(self, wanted: bool) -> Iterator[None]:
        """Compare-and-swap needs one writer at a time; plain writes do not."""
        if not wanted:
            yield
            return
        with (self.folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _walk(folder: str, prefix: str, found: dict[str, int]) -> None:
    """Add the files under a folder, each as prefix + name; plain strings, as an archive has a million of them."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not prefix and entry.name == _OF_THE_DISK:
                    continue
                _walk(entry.path, f"{prefix}{entry.name}/", found)
            elif not entry.name.startswith(PARTIAL) and not entry.is_dir():
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile, or a link to nothing
                    found[prefix + entry.name] = entry.stat().st_size


def _content_generation(data: bytes) -> int:
    """A local file's generation: 62 bits of its content's hash, never ABSENT."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 2 | 1
