"""What costs time to import is imported when a statement needs it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import iceblink as ib


def imported(code: str, folder: Path) -> list[str]:
    """Return what costs time to import and is there after `code` ran in a process of its own."""
    whole = textwrap.dedent(f"""
        import sys
        import iceblink as ib
        lake = ib.connect({str(folder)!r})
        {code}
        print(*sorted({{"pandas", "pyarrow.dataset"}} & set(sys.modules)))
    """)
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_statement_over_files_imports_neither_datasets_nor_pandas(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        lake.write("a.t", lake.sql("SELECT range AS x FROM range(9)"), mode="create")
    assert not imported("assert lake.sql('SELECT sum(x) AS s FROM a.t WHERE x > 3').to_arrow().num_rows", tmp_path)


def test_rows_that_the_kernel_is_fed_come_as_a_dataset(tmp_path: Path) -> None:
    code = "lake.sql('SELECT 1 AS x').map_batches(lambda rows: rows).filter(lambda t: t.x > 0).to_arrow()"
    assert "pyarrow.dataset" in imported(code, tmp_path)
