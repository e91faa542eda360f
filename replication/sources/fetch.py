"""Getting a published file: from the first source that has it, recognised by its digest."""

import hashlib
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

_notices_shown: set[str] = set()


def first_that_works(
    sources: dict[str, Callable[[], bytes]], *, digest: Callable[[bytes], str], expected: str, notice: str, by_hand: str
) -> tuple[bytes, str]:
    """The content of the first source that can be read and has the expected digest, and that source's name.

    A source that breaks off or gives other content is asked once more.

    Raises:
        ValueError: none has it; the message lists what was tried and how to place the file by hand.
    """
    if notice not in _notices_shown:
        _notices_shown.add(notice)
        print(notice, file=sys.stderr)
    failures = []
    for source, read in sources.items():
        for _ in range(2):
            try:
                content = read()
            except FileNotFoundError:
                failure = "no such file"
                break
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:  # no network, 404, a wrong archive
                failure = (str(error).splitlines() or [type(error).__name__])[0][:200]
                continue
            found = digest(content)
            if found == expected:
                return content, source
            failure = f"its {digest.__name__} is {found}, expected {expected}"
        failures.append(f"  {source}: {failure}")
    checked = f"It will be checked by its {digest.__name__}, {expected}."
    raise ValueError("the data could not be had. Tried:\n" + "\n".join(failures) + f"\n{by_hand} {checked}")


def download(url: str) -> bytes:
    with warnings.catch_warnings():  # pooch imports tqdm.auto, which warns in a notebook without ipywidgets
        warnings.simplefilter("ignore")
        import pooch
    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {url}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:  # what breaks off leaves nothing
        downloader = pooch.HTTPDownloader(timeout=30, progressbar=sys.stderr.isatty())
        return Path(pooch.retrieve(url, None, "download", scratch, downloader=downloader)).read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob_id(content: bytes) -> str:
    """The id that git gives a file's content, which identifies a published file without a checksum beside it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
