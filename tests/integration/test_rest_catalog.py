"""The REST catalog over loopback, asked by PyIceberg's own client, by this library, and by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import polars
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NoSuchViewError,
    TableAlreadyExistsError,
    UnauthorizedError,
    ViewAlreadyExistsError,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType
from pyiceberg.view.metadata import SQLViewRepresentation, ViewRepresentation, ViewVersion

import iceblink as ib
from iceblink import _
from iceblink.errors import CatalogError, ConfigError, NamespaceNotFound, SqlError, TableExists, TableNotFound
from iceblink.lake.catalog import Catalog
from iceblink.rest.server import Server
from iceblink.rest.tokens import Tokens
from integration.rest_client import SCHEMA, Rest

WRITER, READER = "writer-0123456789abcdef", "reader-0123456789abcdef"
PART = st.sampled_from(["namespaces", "tables", "views", "shop", "config", "rename", ""]) | st.text(max_size=4)
ROWS = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("city", pa.string())])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake ü")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    tokens = Tokens.of([WRITER], [READER])
    with Server(Catalog.embedded(folder), port=0, tokens=tokens, body_limit_bytes=200_000) as running:
        yield running


@pytest.fixture(scope="module")
def sql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve PyIceberg's own SQL catalog, without tokens."""
    place = tmp_path_factory.mktemp("sql")
    catalog = Catalog.of(type="sql", uri=f"sqlite:///{place}/some.db", warehouse=str(place / "warehouse"))
    with Server(catalog, port=0) as running:
        yield running


@pytest.fixture
def rest(server: Server) -> Rest:
    return Rest(server.url, {"Authorization": f"Bearer {WRITER}"})


@pytest.fixture
def client(server: Server) -> IcebergCatalog:
    return load_catalog("rest", uri=server.url, token=WRITER)


@pytest.fixture
def namespace(rest: Rest) -> str:
    name = f"n{uuid4().hex[:8]}"
    assert rest.ask("POST", "/namespaces", {"namespace": [name]}).status == 200
    return name


def rows(*ids: int, city: str | None = "Oslo") -> pa.Table:
    return pa.table({"id": list(ids), "city": [city] * len(ids)}, schema=ROWS)


# the clients that people have


@pytest.mark.parametrize("which", ["server", "sql_server"])
def test_a_table_lives_its_whole_life_through_pyiceberg(which: str, request: pytest.FixtureRequest) -> None:
    catalog = load_catalog("rest", uri=request.getfixturevalue(which).url, token=WRITER)
    catalog.create_namespace("shop", {"owner": "us"})
    with pytest.raises(NamespaceAlreadyExistsError):
        catalog.create_namespace("shop")
    catalog.create_namespace(("shop", "north"))
    assert catalog.list_namespaces("shop") == [("shop", "north")]
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "city"))
    schema = Schema(NestedField(1, "id", LongType(), required=True), NestedField(2, "city", StringType()))
    table = catalog.create_table("shop.orders", schema, partition_spec=spec, properties={"a": "1"})
    with pytest.raises(TableAlreadyExistsError):
        catalog.create_table("shop.orders", ROWS)
    table.append(rows(1, 2))
    table.append(rows(3, city="Rome"))
    first = table.history()[0].snapshot_id
    with table.update_schema() as update:
        update.add_column("price", LongType())
    with table.update_spec() as change:
        change.add_field("id", IdentityTransform(), "id_part")
    with table.manage_snapshots() as refs:
        refs.create_tag(first, "early").create_branch(first, "side")
    with table.transaction() as transaction:
        transaction.set_properties(b="2")
        transaction.remove_properties("a")
    loaded = catalog.load_table("shop.orders")
    assert loaded.metadata == table.refresh().metadata
    assert (loaded.properties["b"], "a" in loaded.properties) == ("2", False)
    assert sorted(loaded.scan().to_arrow()["id"].to_pylist()) == [1, 2, 3]
    assert sorted(loaded.scan(snapshot_id=first).to_arrow()["id"].to_pylist()) == [1, 2]
    loaded.delete("id = 2")
    assert sorted(catalog.load_table("shop.orders").scan().to_arrow()["id"].to_pylist()) == [1, 3]
    catalog.rename_table("shop.orders", ("shop", "north", "sold"))
    assert not catalog.table_exists("shop.orders")
    assert catalog.list_tables("shop.north") == [("shop", "north", "sold")]
    with pytest.raises(NamespaceNotEmptyError):
        catalog.drop_namespace("shop")
    metadata = catalog.load_table("shop.north.sold").metadata_location
    catalog.drop_table("shop.north.sold")
    again = catalog.register_table("shop.again", metadata)
    assert again.scan().to_arrow().num_rows == 2
    files = [task.file.file_path for task in again.scan().plan_files()]
    catalog.purge_table("shop.again")
    assert files
    assert not [path for path in [*files, metadata] if Path(path).exists()]
    with pytest.raises(NoSuchTableError):
        catalog.load_table("shop.again")
    catalog.drop_namespace("shop.north")
    catalog.drop_namespace("shop")
    with pytest.raises(NoSuchNamespaceError):
        catalog.list_tables("shop")


def test_a_staged_table_appears_with_its_rows(client: IcebergCatalog, namespace: str) -> None:
    name = f"{namespace}.staged"
    with client.create_table_transaction(name, ROWS) as transaction:
        transaction.set_properties(made="at once")
        assert not client.table_exists(name)
        with transaction.update_snapshot().fast_append():
            pass
    assert client.load_table(name).properties["made"] == "at once"
    late = client.create_table_transaction(f"{namespace}.late", ROWS)
    client.create_table(f"{namespace}.late", ROWS)
    with pytest.raises(CommitFailedException):
        late.commit_transaction()


def test_namespaces_have_properties(client: IcebergCatalog, namespace: str) -> None:
    client.update_namespace_properties(namespace, updates={"a": "1", "b": "2"})
    summary = client.update_namespace_properties(namespace, removals={"a", "b", "c"})
    assert (sorted(summary.removed), summary.missing) == (["a", "b"], ["c"])
    assert client.load_namespace_properties(namespace) == {}  # and it is still there
    with pytest.raises(NoSuchNamespaceError):
        client.update_namespace_properties("nowhere", updates={"a": "1"})


@pytest.mark.parametrize("which", ["server", "sql_server"])
def test_a_view_lives_its_whole_life(which: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(which).url
    catalog, rest = load_catalog("rest", uri=url, token=WRITER), Rest(url, {"Authorization": f"Bearer {WRITER}"})
    catalog.create_namespace("views")
    schema = Schema(NestedField(1, "id", LongType()))
    sql = ViewRepresentation(SQLViewRepresentation(type="sql", sql="SELECT 1 AS id", dialect="duckdb"))
    version = ViewVersion.model_validate({"schema-id": 0, "representations": [sql], "default-namespace": ("views",)})
    made = catalog.create_view("views.one", schema, version)
    with pytest.raises(ViewAlreadyExistsError):
        catalog.create_view("views.one", schema, version)
    with pytest.raises(TableAlreadyExistsError):
        catalog.create_table("views.one", ROWS)
    assert catalog.list_views("views") == [("views", "one")]
    assert catalog.list_tables("views") == []
    assert catalog.load_view("views.one").metadata == made.metadata
    two = {
        "schema-id": 0,
        "summary": {},
        "representations": [{"type": "sql", "sql": "SELECT 2 AS id", "dialect": "duckdb"}],
        "default-namespace": ["views"],
    }
    updates = [
        {"action": "add-view-version", "view-version": two},
        {"action": "set-current-view-version", "view-version-id": -1},
        {"action": "set-properties", "updates": {"comment": "another"}},
    ]
    wrong = {"type": "assert-view-uuid", "uuid": str(uuid4())}
    path = "/namespaces/views/views/one"
    refused = rest.ask("POST", path, {"requirements": [wrong], "updates": updates})
    assert (refused.status, refused.kind) == (409, "CommitFailedException")
    right = {"type": "assert-view-uuid", "uuid": made.metadata.view_uuid}
    assert rest.ask("POST", path, {"requirements": [right], "updates": updates}).status == 200
    replaced = catalog.load_view("views.one")
    assert replaced.current_version().representations[0].root.sql == "SELECT 2 AS id"
    assert (len(replaced.versions), len(replaced.history())) == (2, 2)
    there, gone = ({"namespace": ["views"], "name": name} for name in ("two", "one"))
    assert rest.ask("POST", "/views/rename", {"source": gone, "destination": there}).status == 204
    assert (catalog.view_exists("views.two"), catalog.view_exists("views.one")) == (True, False)
    place = rest.ask("GET", "/namespaces/views/views/two").body["metadata-location"]
    with pytest.raises(ViewAlreadyExistsError):
        catalog.register_view("views.two", place)
    if which == "sql_server":  # the folder of an embedded lake's view is its own
        assert catalog.register_view("views.three", place).metadata == catalog.load_view("views.two").metadata
        catalog.drop_view("views.three")
    for no_view in (place.replace("views/one", "views/none"), "/etc/passwd", place[:-5]):
        four = {"name": "four", "metadata-location": no_view}
        assert rest.ask("POST", "/namespaces/views/register-view", four).kind == "BadRequestException"
    catalog.drop_view("views.two")
    with pytest.raises(NoSuchViewError):
        catalog.load_view("views.two")
    catalog.drop_namespace("views")


def test_this_library_works_through_it_as_it_does_by_itself(server: Server) -> None:
    with ib.connect(uri=server.url, token=WRITER) as lake:
        lake.create("my shop.täble", {"id": "long not null", "city": "string"}, partition_by=["city"], sort_by=["id"])
        lake.write("my shop.täble", rows(1, 2))
        before = lake.table("my shop.täble")
        lake.write("my shop.täble", rows(2, 3, city="Rome"), "upsert", on="id")
        assert lake.sql('SELECT id, city FROM "my shop"."täble" ORDER BY id').to_pylist() == [
            {"id": 1, "city": "Oslo"},
            {"id": 2, "city": "Rome"},
            {"id": 3, "city": "Rome"},
        ]
        (first, *_) = lake.history("my shop.täble").order_by("committed_at").to_pylist()
        then = lake.table("my shop.täble", snapshot=first["snapshot_id"])
        assert then.order_by("id").to_pylist() == before.order_by("id").to_pylist()
        lake.write("my shop.made", rows(7), "create")
        with pytest.raises(TableExists):
            lake.write("my shop.made", rows(8), "create")
        lake.write("my shop.made", [{"id": 8, "price": 1.5}], "replace")
        assert lake.rename("my shop.made", "other.sold").to_pylist() == [{"id": 8, "price": 1.5}]
        assert {"my shop.täble", "other.sold"} <= set(lake.tables())
        assert {"my shop", "other"} <= set(lake.namespaces())
        lake.drop("other.sold")
        lake.drop("my shop.täble")
        with pytest.raises(TableNotFound):
            lake.table("other.sold")
        with pytest.raises(NamespaceNotFound):
            lake.tables("nowhere")


def test_polars_and_this_library_read_what_the_other_wrote(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # or it warns that it has a faster one
    with ib.connect(uri=server.url, token=WRITER) as lake:
        mode = {"write.delete.mode": "merge-on-read"}
        lake.write("peers.t", rows(1, 2), "create", partition_by=["city"], properties=mode)
        lake.write("peers.t", rows(3, 4, city="Rome"))
        lake.delete("peers.t", _.id == 1)
        table = load_catalog("rest", uri=server.url, token=WRITER).load_table("peers.t")
        found = polars.scan_iceberg(table).filter(polars.col("id") < 4).sort("id").collect()
        assert found.to_dicts() == [{"id": 2, "city": "Oslo"}, {"id": 3, "city": "Rome"}]
        found.with_columns(id=polars.col("id") + 10).write_iceberg(table, mode="append")
        assert sorted(row["id"] for row in lake.table("peers.t").to_pylist()) == [2, 3, 4, 12, 13]
        assert lake.table("peers.t").filter(_.city == "Rome").count() == 3
        lake.drop("peers.t")


def test_what_a_server_writes_the_folder_has_and_the_other_way_round(server: Server, folder: Path) -> None:
    with ib.connect(folder) as direct, ib.connect(uri=server.url, token=WRITER) as served:
        direct.write("both.t", rows(1), "create")
        served.write("both.t", rows(2))
        direct.write("both.t", rows(3))
        assert sorted(row["id"] for row in served.table("both.t").to_pylist()) == [1, 2, 3]
        direct.drop("both.t")
        assert "both.t" not in served.tables()


# commits, by hand


def test_a_view_of_ours_is_the_same_over_http_and_in_the_folder(server: Server, folder: Path) -> None:
    with ib.connect(folder) as direct, ib.connect(uri=server.url, token=WRITER) as served:
        direct.write("seen.t", {"id": [1, 2, 3]}, "create")
        served.create_view("seen.v", "SELECT id FROM seen.t WHERE id > 1", properties={"comment": "some"})
        assert direct.table("seen.v").count() == served.table("seen.v").count() == 2
        direct.sql("CREATE OR REPLACE VIEW seen.v (key) AS SELECT id FROM seen.t")
        assert served.table("seen.v").columns == ["key"]
        served.sql("CREATE OR REPLACE VIEW seen.v AS SELECT max(id) AS most FROM seen.t")
        assert direct.table("seen.v").to_pylist() == [{"most": 3}]
        assert direct.views("seen") == served.views("seen") == ["seen.v"]
        with pytest.raises(TableExists):
            served.create_view("seen.v", "SELECT 1 AS x")
        served.drop_view("seen.v")
        for lake in (direct, served):
            with pytest.raises(TableNotFound):
                lake.table("seen.v")
            with pytest.raises(TableNotFound):
                lake.drop_view("seen.v")
    spark = SQLViewRepresentation(type="sql", sql="SELECT `a b` FROM seen.t", dialect="spark")
    version = {"schema-id": 0, "representations": [ViewRepresentation(spark)], "default-namespace": ("seen",)}
    schema = Schema(NestedField(1, "a b", LongType(), required=False))
    client = load_catalog("rest", uri=server.url, token=WRITER)
    client.create_view("seen.theirs", schema, ViewVersion.model_validate(version))
    with ib.connect(folder) as direct, pytest.raises(SqlError):
        direct.table("seen.theirs")


def uuid_of(table: dict[str, Any]) -> str:
    return str(table["metadata"]["table-uuid"])


VIOLATED: dict[str, dict[str, Any]] = {
    "assert-create": {},
    "assert-table-uuid": {"uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"},
    "assert-ref-snapshot-id": {"ref": "main", "snapshot-id": 17},
    "assert-last-assigned-field-id": {"last-assigned-field-id": 9},
    "assert-current-schema-id": {"current-schema-id": 9},
    "assert-last-assigned-partition-id": {"last-assigned-partition-id": 9},
    "assert-default-spec-id": {"default-spec-id": 9},
    "assert-default-sort-order-id": {"default-sort-order-id": 9},
}


@pytest.mark.parametrize("kind", VIOLATED)
def test_a_requirement_that_does_not_hold_is_a_409_and_changes_nothing(rest: Rest, namespace: str, kind: str) -> None:
    made = rest.table(namespace, "t")
    files = sorted(Path(made["metadata-location"]).parent.iterdir())
    change = {
        "requirements": [{"type": "assert-table-uuid", "uuid": uuid_of(made)}, {"type": kind, **VIOLATED[kind]}],
        "updates": [{"action": "set-properties", "updates": {"a": "1"}}],
    }
    answer = rest.ask("POST", f"/namespaces/{namespace}/tables/t", change)
    assert (answer.status, answer.kind) == (409, "CommitFailedException")
    now = rest.ask("GET", f"/namespaces/{namespace}/tables/t").body
    assert now == made
    assert sorted(Path(made["metadata-location"]).parent.iterdir()) == files
    change["requirements"].pop()
    assert rest.ask("POST", f"/namespaces/{namespace}/tables/t", change).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"updates": [{"action": "make-coffee"}]},
        {"updates": [{"action": "set-properties"}]},
        {"updates": [{"action": "set-current-schema", "schema-id": 9}]},
        {"updates": [{"action": "set-current-schema", "schema-id": -1}]},
        {"updates": [{"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}]},
        {"updates": [{"action": "set-statistics"}]},
        {"updates": [{"action": "set-properties", "updates": {"py-io-impl": "os.path"}}]},
        {"updates": [{"action": "set-properties", "updates": {"s3.endpoint": "http://else"}}]},
        {"updates": [{"action": "set-properties", "updates": {"write.metadata.path": "/tmp"}}]},
        {"updates": "all"},
        {"requirements": [{"type": "assert-luck"}]},
        {"requirements": [7]},
    ],
)
def test_a_commit_that_cannot_be_is_a_400_and_changes_nothing(rest: Rest, namespace: str, change: Any) -> None:
    made = rest.table(namespace, "t")
    answer = rest.ask("POST", f"/namespaces/{namespace}/tables/t", change)
    assert (answer.status, answer.kind) == (400, "BadRequestException"), answer.body
    assert rest.ask("GET", f"/namespaces/{namespace}/tables/t").body == made


def test_what_is_not_written_here_is_a_406(rest: Rest, namespace: str) -> None:
    made = rest.table(namespace, "t")
    upgrade = {"updates": [{"action": "upgrade-format-version", "format-version": 4}]}
    moved = {"updates": [{"action": "set-location", "location": made["metadata"]["location"] + "-2"}]}
    for change in (upgrade, moved):
        answer = rest.ask("POST", f"/namespaces/{namespace}/tables/t", change)
        assert (answer.status, answer.kind) == (406, "UnsupportedOperationException")
    newer = {"name": "v4", "schema": SCHEMA, "properties": {"format-version": "4"}}
    assert rest.ask("POST", f"/namespaces/{namespace}/tables", newer).status == 406


def test_several_tables_change_together_or_not_at_all(rest: Rest, namespace: str) -> None:
    made = [rest.table(namespace, name) for name in ("one", "two")]

    def transaction(second: str) -> dict[str, Any]:
        return {
            "table-changes": [
                {
                    "identifier": {"namespace": [namespace], "name": name},
                    "requirements": [{"type": "assert-table-uuid", "uuid": uuid}],
                    "updates": [{"action": "set-properties", "updates": {"round": "1"}}],
                }
                for name, uuid in (("one", uuid_of(made[0])), ("two", second))
            ]
        }

    def both() -> list[Any]:
        return [rest.ask("GET", f"/namespaces/{namespace}/tables/{name}").body for name in ("one", "two")]

    answer = rest.ask("POST", "/transactions/commit", transaction(str(uuid4())))
    assert (answer.status, answer.kind) == (409, "CommitFailedException")
    assert both() == made
    assert rest.ask("POST", "/transactions/commit", transaction(uuid_of(made[1]))).status == 204
    assert [one["metadata"]["properties"] for one in both()] == [{"round": "1"}] * 2
    absent = transaction(uuid_of(made[1]))
    absent["table-changes"][1]["identifier"]["name"] = "three"
    answer = rest.ask("POST", "/transactions/commit", absent)
    assert (answer.status, answer.kind) == (404, "NoSuchTableException")
    twice = {"table-changes": transaction(uuid_of(made[1]))["table-changes"][:1] * 2}
    assert rest.ask("POST", "/transactions/commit", twice).status == 400


def test_loading_with_refs_leaves_out_other_snapshots_and_an_etag_saves_the_rest(
    rest: Rest, client: IcebergCatalog, namespace: str
) -> None:
    table = client.create_table(f"{namespace}.t", ROWS)
    for number in range(3):
        table.append(rows(number))
    table.manage_snapshots().create_tag(table.history()[0].snapshot_id, "first").commit()
    path = f"/namespaces/{namespace}/tables/t"
    everything, refs = rest.ask("GET", path), rest.ask("GET", f"{path}?snapshots=refs")
    ids = [one["snapshot-id"] for one in everything.body["metadata"]["snapshots"]]
    assert [one["snapshot-id"] for one in refs.body["metadata"]["snapshots"]] == [ids[0], ids[2]]
    assert everything.headers["etag"] != refs.headers["etag"]
    assert rest.ask("GET", path, If_None_Match=everything.headers["etag"]).status == 304
    assert rest.ask("GET", path, If_None_Match=refs.headers["etag"]).status == 200
    assert rest.ask("GET", f"{path}?snapshots=some").status == 400
    table.append(rows(9))
    assert rest.ask("GET", path, If_None_Match=everything.headers["etag"]).status == 200


def test_lists_come_in_pages(rest: Rest, namespace: str) -> None:
    for number in range(5):
        rest.table(namespace, f"t{number}")
    path, names = f"/namespaces/{namespace}/tables", list[str]()
    token: str | None = ""
    while token is not None:
        answer = rest.ask("GET", f"{path}?pageSize=2&pageToken={token}").body
        assert len(answer["identifiers"]) <= 2
        names += [one["name"] for one in answer["identifiers"]]
        token = answer["next-page-token"]
    assert names == [f"t{number}" for number in range(5)]
    assert len(rest.ask("GET", path).body["identifiers"]) == 5
    for wrong in ("pageToken=%00", "pageToken=e30=", "pageToken=&pageSize=0", "pageToken=&pageSize=x"):
        assert rest.ask("GET", f"{path}?{wrong}").status == 400


def test_metrics_are_taken(rest: Rest, namespace: str) -> None:
    rest.table(namespace, "t")
    report = {"report-type": "scan-report", "table-name": "t", "snapshot-id": 1}
    assert rest.ask("POST", f"/namespaces/{namespace}/tables/t/metrics", report).status == 204
    assert rest.ask("POST", f"/namespaces/{namespace}/tables/u/metrics", report).status == 404


def test_the_configuration_says_what_there_is_and_no_secret(rest: Rest, tmp_path: Path) -> None:
    told = rest.ask("GET", "/config").body
    assert (told["defaults"], told["overrides"]) == ({"token-exchange-enabled": "false"}, {})
    assert "POST /v1/{prefix}/transactions/commit" in told["endpoints"]
    keys = {"s3.endpoint": "http://store", "s3.access-key-id": "abc", "s3.secret-access-key": "secret"}
    catalog = Catalog.of(type="sql", uri=f"sqlite:///{tmp_path}/db", warehouse=str(tmp_path), **keys)
    with Server(catalog, port=0) as other:
        assert Rest(other.url).ask("GET", "/config").body["defaults"] == {"s3.endpoint": "http://store"}


# who may ask


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong-0123456789abcdef", f"Basic {WRITER}", WRITER, "Bearer ü"]
)
def test_without_a_token_that_is_known_nothing_is_answered(server: Server, header: str | None) -> None:
    rest = Rest(server.url, {} if header is None else {"Authorization": header})
    for method, path in (
        ("GET", "/config"),
        ("GET", "/namespaces"),
        ("POST", "/namespaces"),
        ("DELETE", "/namespaces/a"),
    ):
        answer = rest.ask(method, path)
        assert (answer.status, answer.kind) == (401, "NotAuthorizedException")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_wrong_token_is_told_by_the_clients(server: Server) -> None:
    with pytest.raises(UnauthorizedError):
        load_catalog("rest", uri=server.url, token="wrong-0123456789abcdef")
    with pytest.raises(CatalogError):
        ib.connect(uri=server.url, token="wrong-0123456789abcdef")


def test_a_token_for_reading_changes_nothing(server: Server, rest: Rest, namespace: str) -> None:
    made, reader = rest.table(namespace, "t"), Rest(server.url, {"Authorization": f"Bearer {READER}"})
    path = f"/namespaces/{namespace}/tables/t"
    assert reader.ask("GET", path).body == made
    assert reader.ask("POST", f"{path}/metrics", {"report-type": "scan-report"}).status == 204
    tries: list[tuple[str, str, Any]] = [
        ("POST", "/namespaces", {"namespace": ["mine"]}),
        ("POST", path, {"updates": []}),
        ("DELETE", path, None),
        ("POST", "/transactions/commit", {"table-changes": []}),
        ("POST", "/tables/rename", {}),
        ("DELETE", f"/namespaces/{namespace}", None),
    ]
    for method, where, body in tries:
        answer = reader.ask(method, where, body)
        assert (answer.status, answer.kind) == (403, "ForbiddenException")
    assert rest.ask("GET", path).body == made


def test_a_server_without_tokens_answers_to_localhost_alone(sql_server: Server, tmp_path: Path) -> None:
    rest = Rest(sql_server.url)
    assert rest.ask("GET", "/config").status == 200
    assert rest.ask("GET", "/config", Host="evil.example").kind == "ForbiddenException"
    assert rest.ask("POST", "/namespaces", b'{"namespace": ["a"]}', Content_Type="text/plain").status == 400
    with pytest.raises(ConfigError):
        Server(Catalog.embedded(tmp_path), host="0.0.0.0", port=0)


# what nobody should send


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"namespace": NaN}', b"\xff", b'{"namespace": ["\\ud800"]}', b"[" * 50_000, b'"x"'],
)
def test_a_body_that_is_no_object_is_a_400(rest: Rest, body: bytes) -> None:
    answer = rest.ask("POST", "/namespaces", body)
    assert (answer.status, answer.kind) == (400, "BadRequestException")


def test_a_body_that_is_too_large_is_not_read(rest: Rest) -> None:
    for headers in ({}, {"Transfer_Encoding": "chunked"}):
        body = b'{"namespace": ["a"], "x": "' + b"y" * 300_000 + b'"}'
        if headers:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        answer = rest.ask("POST", "/namespaces", body, **headers)
        assert (answer.status, answer.kind) == (413, "RequestTooLargeException")
    assert rest.ask("HEAD", "/namespaces/a").status == 404


@pytest.mark.parametrize(
    "location",
    ["/etc/lake", "{lake}", "{lake}/a/../../b", "{lake}/a/./b", "{lake}x/a/b", "{lake}/a", "{lake}/a/b/c",
     "{lake}/a//b", "s3://bucket/a/b", "file:///etc/a", "a/b", "", "{lake}/a/b\0", "{lake}/link/b", "{taken}", "file://{taken}"],
)  # fmt: skip
def test_a_place_outside_of_the_warehouse_or_of_another_is_refused(
    rest: Rest, namespace: str, folder: Path, location: str
) -> None:
    taken = rest.table(namespace, "taken")["metadata"]["location"]
    if not (folder / "link").is_symlink():
        (folder / "link").symlink_to("/tmp")
    body = {"name": "t", "schema": SCHEMA, "location": location.format(lake=folder, taken=taken)}
    for stage in (False, True):
        answer = rest.ask("POST", f"/namespaces/{namespace}/tables", {**body, "stage-create": stage})
        assert (answer.status, answer.kind) == (400, "BadRequestException"), answer.body
    create: dict[str, list[dict[str, Any]]] = {
        "requirements": [{"type": "assert-create"}],
        "updates": [
            {"action": "upgrade-format-version", "format-version": 2},
            {"action": "add-schema", "schema": SCHEMA},
            {"action": "set-current-schema", "schema-id": -1},
            {"action": "add-spec", "spec": {"fields": []}},
            {"action": "set-default-spec", "spec-id": -1},
            {"action": "add-sort-order", "sort-order": {"order-id": 0, "fields": []}},
            {"action": "set-default-sort-order", "sort-order-id": -1},
            {"action": "set-location", "location": body["location"]},
        ],
    }
    answer = rest.ask("POST", f"/namespaces/{namespace}/tables/t", create)
    assert (answer.status, answer.kind) == (400, "BadRequestException"), answer.body
    assert rest.ask("HEAD", f"/namespaces/{namespace}/tables/t").status == 404
    create["updates"][-1]["location"] = f"{folder}/{namespace}/good"  # as nothing else was wrong with it
    assert rest.ask("POST", f"/namespaces/{namespace}/tables/t", create).status == 200


@pytest.mark.parametrize(
    "metadata", ["/etc/passwd", "{folder}/catalog.db", "{folder}/none/t/metadata/0-a.metadata.json"]
)
def test_only_metadata_inside_is_registered(rest: Rest, namespace: str, folder: Path, metadata: str) -> None:
    body = {"name": "t", "metadata-location": metadata.format(folder=folder)}
    answer = rest.ask("POST", f"/namespaces/{namespace}/register", body)
    assert (answer.status, answer.kind) == (400, "BadRequestException")
    made = rest.table(namespace, "made")  # two tables of one folder: purging one would take the other's files
    body["metadata-location"] = made["metadata-location"]
    assert rest.ask("POST", f"/namespaces/{namespace}/register", body).status == 400


@pytest.mark.parametrize(
    "path",
    ["a%2Fb", "a%2f..%2fb", "..", "%2e%2e", ".", "a.b", "%00", "a%00b", "a%0Ab", "a%E2%80%A8b", "%1F", "a%1F",
     "a%1F%1Fb", "%20a", "a%5Cb", "%FF", "a" * 256, "a%1F..%1Fb"],
)  # fmt: skip
def test_a_hostile_name_is_refused_wherever_it_stands(rest: Rest, path: str) -> None:
    for method, where, body in (
        ("GET", f"/namespaces/{path}", None),
        ("DELETE", f"/namespaces/{path}", None),
        ("GET", f"/namespaces/shop/tables/{path.replace('%1F', '%0A')}", None),
        ("POST", f"/namespaces/{path}/tables", {"name": "t", "schema": SCHEMA}),
        ("GET", f"/namespaces/{path}/views", None),
    ):
        answer = rest.ask(method, where, body)
        assert (answer.status, answer.kind) == (400, "BadRequestException"), where


def test_what_is_no_operation_is_told_in_the_same_form(rest: Rest) -> None:
    assert rest.ask("GET", "/nothing").kind == "NoSuchEndpointException"
    assert rest.ask("PATCH", "/namespaces").status == 405
    assert rest.ask("GET", "/../v1/config").status == 404


def test_damage_is_told_without_a_traceback(folder: Path, rest: Rest, namespace: str) -> None:
    with ib.connect(folder) as direct:
        direct.create(f"{namespace}.t", {"id": "long"})
        location = Path(direct.session.catalog.load(f"{namespace}.t").pyiceberg.metadata_location)
    location.write_bytes(location.read_bytes()[:-9])
    answers = [rest.ask("GET", f"/namespaces/{namespace}/tables/t")]
    answers.append(rest.ask("POST", f"/namespaces/{namespace}/tables/t", {"updates": []}))
    location.unlink()
    answers.append(rest.ask("GET", f"/namespaces/{namespace}/tables"))
    assert [answer.status for answer in answers] == [500, 500, 200]
    assert {answer.kind for answer in answers[:2]} == {"InternalServerError"}
    assert rest.ask("DELETE", f"/namespaces/{namespace}/tables/t?purgeRequested=true").status == 204
    assert not location.parents[1].exists()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]), parts=st.lists(PART, max_size=4), body=st.binary())
def test_whatever_is_asked_the_answer_has_the_form_of_the_specification(
    rest: Rest, method: str, parts: list[str], body: bytes
) -> None:
    path = "/" + "/".join(quote(part, safe="", errors="surrogatepass") for part in parts)
    answer = rest.ask(method, path, body if method == "POST" else None)
    assert answer.status < 500
    assert method == "HEAD" or answer.status < 400 or answer.kind


def test_an_entry_without_metadata_is_damage_and_can_be_dropped(folder: Path, rest: Rest, namespace: str) -> None:
    rest.table(namespace, "t")
    with closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        forget = "UPDATE iceberg_tables SET metadata_location = NULL WHERE table_namespace = ?"
        connection.execute(forget, [namespace])
    path = f"/namespaces/{namespace}/tables/t"
    assert rest.ask("GET", path).kind == "InternalServerError"
    assert rest.ask("POST", path, {"updates": []}).kind == "InternalServerError"
    assert rest.ask("DELETE", path).status == 204
    assert rest.ask("HEAD", path).status == 404


def test_a_sql_catalog_keeps_strangers_inside_of_its_warehouse(sql_server: Server, tmp_path: Path) -> None:
    rest = Rest(sql_server.url)
    made = rest.table("inside", "t")["metadata"]["location"]
    warehouse = Path(made).parents[1]
    for location in ("/etc/t", f"{warehouse}/../t", str(warehouse), f"s3:/{warehouse}/t"):
        body = {"name": "u", "schema": SCHEMA, "location": location}
        assert rest.ask("POST", "/namespaces/inside/tables", body).kind == "BadRequestException"
        update = {"updates": [{"action": "set-location", "location": location}]}
        assert rest.ask("POST", "/namespaces/inside/tables/t", update).kind == "BadRequestException"
        properties = {"updates": {"location": location}}
        assert rest.ask("POST", "/namespaces/inside/properties", properties).status == 400
    deep = {"name": "u", "schema": SCHEMA, "location": f"file://{warehouse}/a/b/c/u"}
    assert rest.ask("POST", "/namespaces/inside/tables", deep).body["metadata"]["location"] == f"{warehouse}/a/b/c/u"


def test_a_purge_takes_no_file_that_is_not_in_the_folder_of_its_table(sql_server: Server, tmp_path: Path) -> None:
    rest = Rest(sql_server.url)
    folder = Path(rest.table("inside", "v")["metadata"]["location"])
    near, outside = folder.with_name("near.avro"), tmp_path / "outside.avro"
    victims = [near, outside, folder.with_name("v-else") / "x.avro"]
    updates = []
    for number, victim in enumerate([*victims, folder / "own.avro"], start=1):
        victim.parent.mkdir(exist_ok=True)
        victim.write_text("precious")
        snapshot = {
            "snapshot-id": number,
            "sequence-number": number,
            "timestamp-ms": 1,
            "manifest-list": str(victim),
            "summary": {"operation": "append"},
        }
        updates.append({"action": "add-snapshot", "snapshot": snapshot})
    assert rest.ask("POST", "/namespaces/inside/tables/v", {"updates": updates}).status == 200
    assert rest.ask("DELETE", "/namespaces/inside/tables/v?purgeRequested=true").status == 204
    assert all(victim.exists() for victim in victims)
    assert not (folder / "own.avro").exists()
    assert not list(folder.rglob("*.json"))
