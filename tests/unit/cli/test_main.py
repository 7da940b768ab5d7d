"""The command, run in this process: what it prints, what it leaves, and its exit status."""

from __future__ import annotations

import csv
import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import iceblink as ib
from iceblink.cli import commands
from iceblink.cli.main import main
from iceblink.events import Event, observing


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICEBLINK_LAKE", raising=False)
    (tmp_path / "orders.csv").write_text("id,city,price\n1,Oslo,9.5\n2,Rome,\n3,Oslo,2.5\n")
    return tmp_path


@pytest.fixture
def orders(here: Path) -> str:
    assert main(["import", "shop.orders", "orders.csv"]) == 0
    return "shop.orders"


def test_import_makes_the_table_then_appends(orders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", orders, "orders.csv", "orders.csv"]) == 0
    assert main(["sql", "SELECT count(*) AS n FROM shop.orders"]) == 0
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["n"], ["9"]]


def test_import_upserts_by_key(orders: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "more.jsonl").write_text('{"id": 3, "city": "Lima", "price": 1.5}\n{"id": 4, "city": null, "price": 1.5}\n')
    assert main(["import", orders, "more.jsonl", "--mode", "upsert", "--on", "id"]) == 0
    assert main(["sql", "SELECT id, city FROM shop.orders ORDER BY id", "--format", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["city"]) for row in rows] == [(1, "Oslo"), (2, "Rome"), (3, "Lima"), (4, None)]


def test_import_reads_parquet_and_partitions_a_new_table(here: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3], "city": ["Oslo", "Rome", "Oslo"]}), here / "part-1.parquet")
    assert main(["import", "shop.cities", "part-*.parquet", "--partition-by", "city", "--sort-by=-id"]) == 0
    with ib.connect() as lake:
        assert lake.table("shop.cities.files").count() == 2


def test_tables_describe_and_history_say_what_there_is(orders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables"]) == main(["describe", orders]) == main(["history", orders]) == 0
    out = capsys.readouterr().out.replace('"', "").splitlines()
    assert out[:2] == ["table", "shop.orders"]
    assert out[2:6] == ["column,type,nullable", "id,long,true", "city,string,true", "price,double,true"]
    assert "append" in out[-1]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl", "out.arrow"])
def test_export_is_imported_again(orders: str, name: str) -> None:
    query = "SELECT id, city FROM shop.orders WHERE price > 3"
    assert main(["export", query, name]) == 0
    if name.endswith(".arrow"):
        with pa.OSFile(name) as file:
            assert pa.ipc.open_stream(file).read_all().to_pylist() == [{"id": 1, "city": "Oslo"}]
        return
    assert main(["import", "shop.again", name]) == 0
    with ib.connect() as lake:
        assert lake.table("shop.again").to_pylist() == [{"id": 1, "city": "Oslo"}]


def test_a_failed_export_leaves_no_file(orders: str, here: Path) -> None:
    before = sorted(here.iterdir())
    assert main(["export", "SELECT city::INT AS x FROM shop.orders", "out.csv"]) == 2
    assert main(["export", orders, "out.xlsx"]) == 2
    assert main(["export", orders, "nowhere/out.csv"]) == 2
    assert sorted(here.iterdir()) == before


def test_explain_prints_the_plan_and_no_rows(orders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "--explain", "SELECT id FROM shop.orders WHERE price > 5"]) == 0
    plan = capsys.readouterr().out
    assert "shop.orders" in plan
    assert "SELECT" in plan


def test_an_option_may_stand_before_or_after_the_command(orders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lake", "lakehouse", "tables", "shop"]) == 0
    assert main(["tables", "--lake", "lakehouse"]) == 0
    assert capsys.readouterr().out.count("shop.orders") == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["sql", "SELECT pirce FROM shop.orders"], "column-not-found"),
        (["sql", "SELEC 1"], "sql-error"),
        (["describe", "shop.order"], "table-not-found"),
        (["import", "shop.orders", "orders.doc"], "config-error"),
        (["import", "shop.orders", "none.csv"], "plan-error"),
        (["import", "shop.orders", "orders.csv", "--mode", "create"], "table-exists"),
    ],
)
def test_a_mistake_is_three_lines_and_status_2(
    orders: str, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"iceblink: {code}: ")
    assert "Traceback" not in told
    assert "  hint  " in told


def test_asking_makes_no_lake(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--lake", "elsewhere"]) == 2
    assert "no lake in 'elsewhere'" in capsys.readouterr().err
    assert not (here / "elsewhere").exists()


def test_debug_shows_the_traceback(orders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "shop.order", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "told"), [(KeyboardInterrupt(), 130, "stopped"), (ZeroDivisionError("x"), 1, "a bug")]
)
def test_other_ends_have_their_own_status(
    orders: str, error: BaseException, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(event: Event) -> None:
        raise error

    with observing(fail):
        assert main(["export", orders, "out.csv"]) == status
    assert told in capsys.readouterr().err
    assert not Path("out.csv").exists()


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "iceblink", *arguments], capture_output=True, check=False)


def test_arrow_goes_through_a_pipe(orders: str) -> None:
    done = run("sql", "SELECT id, city FROM shop.orders ORDER BY id", "--format", "arrow")
    assert pa.ipc.open_stream(done.stdout).read_all().to_pydict() == {"id": [1, 2, 3], "city": ["Oslo", "Rome", "Oslo"]}


def test_a_reader_that_leaves_early_is_no_error(orders: str) -> None:
    command = f"{sys.executable} -m iceblink sql 'SELECT * FROM range(3000000)' | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1] == "0"
    assert done.stderr == ""


def test_help_imports_nothing_heavy(here: Path) -> None:
    code = """
        import sys
        from iceblink.cli.main import main
        try: main(["--help"])
        except SystemExit: pass
        heavy = {"ibis", "pyiceberg", "duckdb", "sqlglot", "pandas", "sklearn"}
        print(sorted(heavy & set(sys.modules)), file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", "if 1:" + code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_every_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for command in (commands.sql, commands.tables, commands.describe, commands.history, commands.export, commands.demo):
        assert command.__name__ in told
        assert (command.__doc__ or "")[1:-1] in told


def test_a_server_says_what_is_missing_or_wrong_before_it_serves(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "tokens").write_text("short\n")
    assert main(["catalog", "serve", "a lake", "--port", "0", "--token-file", "tokens"]) == 2
    assert "is too short" in capsys.readouterr().err
    assert main(["catalog", "serve", "a lake", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "--token-file" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["catalog", "serve", "a lake", "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err
    assert main(["catalog", "serve", "a lake", "--port", "77777"]) == 2
    assert "is no port" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["catalog", "serve"]) == 2
    assert "iceblink[serve]" in capsys.readouterr().err
