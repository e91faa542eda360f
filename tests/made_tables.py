"""Small tables that tests make, and the command on them."""

import numpy as np

from replication.app import cli
from replication.sources.tables import Table, read_table

HEAD = ["user", "item"]


def write(path, *lines: str):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def interactions(n_users=30, n_items=20, per_user=10, seed=0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        f"u{user:03d},i{item},{rng.integers(1, 6)}"
        for user in range(n_users)
        for item in rng.choice(n_items, per_user, replace=False)
    ]


def rows(*cells: str, n_users=40, n_items=20, per_user=10) -> list[list[str]]:
    """400 interactions of 40 users and 20 items, each with further cells: ``{n}`` in them is the row's number."""
    pairs = [(user, (user + k) % n_items) for user in range(n_users) for k in range(per_user)]
    return [
        [f"u{user:02d}", f"i{item:02d}", *(cell.format(n=n) for cell in cells)] for n, (user, item) in enumerate(pairs)
    ]


def text(separator: str, *records, end="\n") -> bytes:
    return "".join(separator.join(record) + end for record in records).encode()


def read(tmp_path, content: bytes, name="t.csv", **how) -> Table:
    (tmp_path / name).write_bytes(content)
    return read_table(tmp_path / name, **how)


def call(*arguments: str) -> int:
    return cli.run(cli._parser().parse_args(arguments), list(arguments))
