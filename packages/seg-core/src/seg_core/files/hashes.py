"""Hashes of files: sha256, and md5 where a site publishes no other."""

import hashlib
from pathlib import Path

__all__ = ["MD5", "digest_of", "hash_words"]

_DIGITS_SHOWN = 16
MD5 = "md5:"
"""Prefix of an md5."""


def hash_words(digest: str) -> str:
    """Returns the beginning of a hash in words, for messages."""
    if digest.startswith(MD5):
        return f"the md5 {digest.removeprefix(MD5)}"
    return f"a sha256 that begins with {digest[:_DIGITS_SHOWN]}"


def digest_of(path: Path, like: str) -> tuple[str, str]:
    """Returns a file's hash of the kind that `like` is, and its sha256."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            if like.startswith(MD5):
                md5.update(block)
    digest = sha256.hexdigest()
    return (MD5 + md5.hexdigest() if like.startswith(MD5) else digest), digest
