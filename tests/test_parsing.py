"""What scripts print, in all the ways that they do, becomes rows and rejects: never an exception, never half a row."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tap_defender_lr.json_documents import whole
from tap_defender_lr.json_paths import JsonPath
from tap_defender_lr.parsing import CUT, parse
from tap_defender_lr.pieces import Reject, Row, shown
from tap_defender_lr.script_streams import ScriptStream
from tests.script_values import pieces_of, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

AB = [{"a": 1}, {"a": 2}]
NAMES = {"properties": {"name": {"type": "string"}, "size": {"type": "integer"}}}
EMPTY = "the output is empty; let the script print [] if there is nothing"
X, Y = {"name": "x", "size": "1"}, {"name": "y", "size": "2"}


def read(output: str | None, *, cut: bool = False, **entry: Any) -> tuple[list[Row], list[Reject]]:
    pieces = pieces_of(output, cut=cut, **entry)
    return [piece for piece in pieces if isinstance(piece, Row)], [p for p in pieces if isinstance(p, Reject)]


def values(output: str, **entry: Any) -> list[dict[str, Any]]:
    """The rows of an output in which nothing is wrong."""
    rows, rejects = read(output, **entry)
    assert rejects == []
    return [row.values for row in rows]


class TestJson:
    @pytest.mark.parametrize("form", ["auto", "json"])
    @pytest.mark.parametrize(
        ("output", "rows"),
        [
            pytest.param('[{"a": 1}, {"a": 2}]', AB, id="list"),
            pytest.param('\ufeff[\r\n  {"a": 1},\r\n  {"a": 2}\r\n]\r\n', AB, id="indented, CRLF, byte order mark"),
            pytest.param('{"a": 1}', [{"a": 1}], id="one object"),
            pytest.param("[]", [], id="empty list"),
            pytest.param("null", [], id="null"),
            pytest.param('{"value": [{"a": 1}, {"a": 2}], "Count": 2}', AB, id="value and Count"),
            pytest.param('{"value": [], "Count": 0}', [], id="empty value and Count"),
            pytest.param('{"value": 1, "Count": 2}', [{"value": 1, "Count": 2}], id="columns value and Count"),
            pytest.param('{"a": 1.10, "b": NaN}', [{"a": Decimal("1.10"), "b": "NaN"}], id="numbers"),
            pytest.param('[{"a": "x\ny\tz"}]', [{"a": "x\ny\tz"}], id="raw line feed in a text"),
            pytest.param('\x1b[32m[{"a": "\\u001b[31m"}]\x1b[0m', [{"a": "\x1b[31m"}], id="coloured"),
        ],
    )  # fmt: skip
    def test_a_document(self, form: str, output: str, rows: list[dict[str, Any]]) -> None:
        assert values(output, format=form) == rows

    @pytest.mark.parametrize(
        ("document", "rows"),
        [
            ({"b": AB}, AB),
            ({"b": {"a": 1}}, AB[:1]),
            ({"b": {"value": AB, "Count": 2}}, AB),
            ({"b": None}, []),
            ({"b": []}, []),
        ],
        ids=["list", "object", "value and Count", "null", "empty"],
    )
    @pytest.mark.parametrize("path", ["$.b", "$.b[*]", "$..b", "b"])
    def test_records_path(self, document: Any, rows: list[dict[str, Any]], path: str) -> None:
        assert values(json.dumps(document), records_path=path) == rows

    def test_a_document_of_powershell_with_a_list_around_it(self) -> None:
        assert values('{"value": [{"a": 1}], "Count": 1}', records_path="$[*]") == [{"a": 1}]

    def test_a_path_that_is_not_there_is_told(self) -> None:
        rows, (reject,) = read('{"c": 1}', records_path="$.b")
        assert rows == []
        assert reject == Reject("`records_path` $.b finds nothing in the document", '{"c":1}', "$.b")

    def test_a_row_has_its_place_also_after_rejected_ones(self) -> None:
        rows, rejects = read(json.dumps({"b": [{"a": 1}, 5, "x", None, [1], True, {"a": 2}]}), records_path="$.b[*]")
        assert [(row.index, row.location) for row in rows] == [(0, "$.b[0]"), (6, "$.b[6]")]
        assert [(r.row_index, r.location, r.text, r.column) for r in rejects] == [
            (1, "$.b[1]", "5", None),
            (2, "$.b[2]", "x", None),
            (3, "$.b[3]", "null", None),
            (4, "$.b[4]", "[1]", None),
            (5, "$.b[5]", "true", None),
        ]
        kinds = ("a number", "a text", "null", "a list", "a truth value")
        assert [r.reason for r in rejects] == [f"is {kind}, not an object: it has no columns" for kind in kinds]

    @pytest.mark.parametrize("output", ['WARNING: x\n[{"a": 1}]', '{"a": 1}\n{"a": 2}', '[{"a": True}]', '[{"a": 1}'])
    def test_strict(self, output: str) -> None:
        rows, (reject,) = read(output, format="json")
        assert rows == []
        assert reject.reason.startswith("is no JSON document (")
        assert reject.text == output


class TestAmidText:
    @pytest.mark.parametrize(
        "before",
        [
            "WARNING: slow\n",
            "[1/20] step\n[2/20] step\n",
            "[INFO] start\n",
            "{0} items in {x} ()\n",
            "WARNING: [x] {y}\n",
            'It is [1] or ["a", 2] or {}\n',
            "\x1b[33mWARNING: \x1b]0;title\x07yellow\x1b[0m\r\n",
            "Reading \r50 %\r100 %\r\n",
            'found {"a": 5} somewhere\n',
            "\x1b] broken escape\n",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("indent", [None, 2])
    def test_is_found(self, before: str, indent: int | None) -> None:
        document = json.dumps(AB, indent=indent)
        assert values(f"{before}{document}\n{before}") == AB
        assert values(f"{before} \ufeff{document} \n{before}".replace("\n", "\r\n")) == AB

    def test_of_several_within_lines_the_longest_is_read_and_the_others_are_told(self) -> None:
        rows, (reject,) = read('found {"a": 1}\nand {"a": 22}!\nand {"a": 3}')
        assert [row.values for row in rows] == [{"a": 22}]
        assert reject.reason.startswith("the JSON document stands within a line, and so does a longer one")
        assert (reject.location, reject.text[:8]) == ("line 1", '{"a": 1}')

    @pytest.mark.parametrize(
        ("output", "rows"),
        [
            ('found {"a": 22}!', [{"a": 22}]),
            ('Result: [{"a": 1}, {"a": 2}]', AB),
            ('x [{"a": 1}]\n{"a": 2}\n', [{"a": 2}]),
            ('x\n{"a": 1} {"a": 2}\nx', AB),
            ('x\n{\n"a": 1}\nx\n{"a": \n2}\nx', AB),
            ("x\n[]\n", []),
            ('x\n[1]\n{"a": 1}\nx\ny', [{"a": 1}]),
        ],
        ids=["inline", "list inline", "own line first", "two in a line", "two with text between", "empty", "note"],
    )
    def test_which(self, output: str, rows: list[dict[str, Any]]) -> None:
        assert values(output) == rows

    @pytest.mark.parametrize(
        ("output", "reason"),
        [
            ('x\n[{"a": {"b": 1}}, {"a": 2', "the JSON document has no end"),
            ('x\n[{"a": {"b": 1}}, {"a": "2', "the JSON document has no end"),
            ('x\n[{"a": 1}, {"a" 2}, {"a": {"b": 3}}]\nx', "breaks off at line 2 (expecting ':' delimiter)"),
            ('x\n{"a": {"b": 1}, c: [{"d": 1}]}\nx', "breaks off at line 2 (expecting property name"),
            ('x\n[{"a": {"b": 1}}, {"a": tr', "breaks off at line 2 (expecting value)"),
            ("x\n" + '{"a":' * 2000 + "1" + "}" * 2000 + "\nx", "the JSON document is nested too deeply"),
        ],
    )
    def test_what_is_broken_is_one_reject(self, output: str, reason: str) -> None:
        rows, (reject,) = read(output)
        assert rows == []
        assert reason in reject.reason
        assert (reject.location, reject.row_index) == ("line 2", None)

    def test_what_stands_before_the_broken_one_is_kept(self) -> None:
        rows, (reject,) = read('x\n{"a": 1}\n[{"a": 2}, {"a"')
        assert [(row.values, row.location) for row in rows] == [({"a": 1}, "line 2: $")]
        assert reject.location == "line 3"

    @pytest.mark.parametrize(
        "output", ["it broke", "[1] a [2] b", "[INFO] x\n{y}\nz", '["a", "b" c]', "Hello\nworld\n"]
    )
    def test_no_data_is_one_reject(self, output: str) -> None:
        assert read(output) == (
            [],
            [Reject("neither JSON nor CSV is in the output; if it is one of them, set `format`", output)],
        )

    @pytest.mark.parametrize("size", [1000, 1023, 1024, 1025, 8191, 8192, 70_000])
    @pytest.mark.parametrize(
        "text", ['{"a": "%s"}', '{"a": [%s1]}', '{"%s\\u00e4": -1}', '{"a": "%s\\\\", "b": true }']
    )
    def test_a_document_of_any_length(self, size: int, text: str) -> None:
        document = text % ("1, " * (size // 3) if "[" in text else "x" * size)
        assert values(f"x\n{document}\ny") == [json.loads(document)]
        assert len(read(f"x\n{document[:-1]}")[1]) == 1


class TestLines:
    LINES = '{"a": 1}\r\n\r\n{"a": 2}\r\n'

    @pytest.mark.parametrize("form", ["auto", "jsonl"])
    def test_each_is_a_row(self, form: str) -> None:
        assert values(self.LINES, format=form) == AB

    def test_rejects_have_their_place(self) -> None:
        rows, rejects = read('{"a": 1}\n\nx\n[1]\n{"a" 1}\n{"a": 2}', format="jsonl")
        assert [(row.index, row.location) for row in rows] == [(0, "line 1"), (4, "line 6")]
        assert [(r.row_index, r.location, r.text) for r in rejects] == [
            (1, "line 3", "x"),
            (2, "line 4", "[1]"),
            (3, "line 5", '{"a" 1}'),
        ]
        assert rejects[0].reason == "is no JSON object"
        assert "Expecting ':' delimiter" in rejects[2].reason

    def test_amid_noise(self) -> None:
        assert values(f"WARNING: [x]\n{self.LINES}") == AB

    def test_a_broken_line_among_many_is_told(self) -> None:
        rows, (reject,) = read('start\n{"a": 1}\n{"a": 2}\n{"a": \n{"a": 4}\n')
        assert [row.index for row in rows] == [0, 1, 3]
        assert (reject.row_index, reject.location) == (2, "line 4")


class TestCsv:
    SEMICOLONS = "name;size\nx;1\ny;2\n"

    @pytest.mark.parametrize("form", ["auto", "csv"])
    @pytest.mark.parametrize("schema", [None, NAMES], ids=["inferred", "with schema"])
    @pytest.mark.parametrize(
        "output",
        [
            pytest.param("name,size\nx,1\ny,2", id="commas"),
            pytest.param('"name","size"\r\n"x","1"\r\n"y","2"\r\n', id="quoted, CRLF"),
            pytest.param(SEMICOLONS, id="semicolons"),
            pytest.param("name\tsize\nx\t1\ny\t2\n", id="tabs"),
            pytest.param("name|size\nx|1\ny|2\n", id="pipes"),
            pytest.param("\ufeff" + SEMICOLONS, id="byte order mark"),
            pytest.param("#TYPE System.Object\r\n" + SEMICOLONS, id="#TYPE"),
            pytest.param("sep=;\n" + SEMICOLONS, id="sep="),
            pytest.param('"sep=;"\n' + SEMICOLONS, id="quoted sep="),
            pytest.param("sep=\t\nname\tsize\nx\t1\ny\t2\n", id="sep= with a tab"),
            pytest.param("sep=^\nname^size\nx^1\ny^2\n", id="sep= with an unusual one"),
            pytest.param('#TYPE a\nsep=;\n\n"name";size\nx;1\n\n \ny;"2"\n\n', id="blank lines"),
        ],
    )
    def test_a_table(self, form: str, schema: dict[str, Any] | None, output: str) -> None:
        assert values(output, format=form, schema=schema) == [X, Y]

    def test_values_are_texts(self) -> None:
        stream = ScriptStream("a", "b")
        assert parse("name,size\nx,1", stream).text_only
        assert not parse("[]", stream).text_only

    def test_cells(self) -> None:
        output = 'name,size\n"a ""b"", c\nd",\n 5" , [\n,"{"\n'
        assert values(output, schema=NAMES) == [
            {"name": 'a "b", c\nd', "size": None},
            {"name": ' 5" ', "size": " ["},
            {"name": None, "size": "{"},
        ]

    @pytest.mark.parametrize("header", ["name,size", "NAME , Size", "name,unknown", "output_name,name"])
    def test_text_before_the_header_is_left_out(self, header: str) -> None:
        rows, rejects = read(f"WARNING: [x], y\n[INFO] start\n\n{header}\nx,1\n", format="csv", schema=NAMES)
        assert rejects == []
        assert [(list(row.values.values()), row.index, row.location) for row in rows] == [(["x", "1"], 0, "line 5")]

    def test_a_header_with_a_name_that_every_row_has(self) -> None:
        schema = {"properties": {"output_script_name": {"type": "string"}}}
        assert values("warning\nscript_name\nx\n", schema=schema) == [{"script_name": "x"}]

    def test_one_column(self) -> None:
        assert values("name\nx\n\ny\n", schema=NAMES) == [{"name": "x"}, {"name": "y"}]
        assert values("anything\nx\n", format="csv") == [{"anything": "x"}]

    def test_a_column_without_a_name(self) -> None:
        assert values("a,,b\n1,2,3\n", format="csv") == [{"a": "1", "column_2": "2", "b": "3"}]

    @pytest.mark.parametrize(
        ("output", "indexes", "rejects"),
        [
            ("a,b\n1\n2,3\n4,5,6\n7,8", [1, 3], [(0, "has 1 fields where the header has 2"), (2, "has 3 fields")]),
            ('a,b\n1,2\n3,"4\n5,6\n', [0], [(1, "is no CSV (unexpected end of data)")]),
            ('a,b\n1,2\n"3"x,4\n5,6\n', [0], [(1, "is no CSV (")]),
            ("a,A\n1,2\n", [], [(None, "its header has a column twice")]),
            ("\n#TYPE x\nsep=;\n", [], [(None, "there is no header line")]),
        ],
        ids=["short and long", "unclosed quote", "text after a quote", "column twice", "no header"],
    )
    def test_rejects(self, output: str, indexes: list[int], rejects: list[tuple[int | None, str]]) -> None:
        rows, told = read(output, format="csv")
        assert [row.index for row in rows] == indexes
        assert [reject.row_index for reject in told] == [index for index, _ in rejects]
        assert all(reason in reject.reason for reject, (_, reason) in zip(told, rejects, strict=True))

    def test_brackets_in_cells_are_no_json(self) -> None:
        output = 'name,size\n"{8A2}",[]\n"x\n{}\n[{""a"": 1}]\ny",{}\n[INFO],{'
        assert [row["size"] for row in values(output, schema=NAMES)] == ["[]", "{}", "{"]


class TestMarkers:
    ENTRY: dict[str, Any] = {"records_start": "--- begin ---", "records_end": "--- end ---"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("data", "form"),
        [('[{"a": 1}, {"a": 2}]', "json"), ('{"a": 1}\n{"a": 2}', "jsonl"), ('[\n{"a": 1}, {"a": 2}]', "auto")],
    )
    def test_what_stands_between_is_read(self, data: str, form: str) -> None:
        output = f'[{{"noise": 1}}]\n  --- begin ---\t\n{data}\n--- end ---\n[{{"noise": 2}}]'.replace("\n", "\r\n")
        assert values(output, format=form, **self.ENTRY) == AB

    def test_lines_are_those_of_the_output(self) -> None:
        output = "x\n\n--- begin ---\nname,size\nx,1\ny\n--- end ---"
        (row,), (reject,) = read(output, format="csv", **self.ENTRY)
        assert (row.location, reject.location) == ("line 5", "line 6")

    @pytest.mark.parametrize(
        ("output", "cut", "rows", "reasons"),
        [
            ('[{"a": 1}]', False, 0, ["the line --- begin --- is not in the output"]),
            ('[{"a": 1}]', True, 0, [CUT]),
            ('--- begin ---\n[{"a": 1}]', False, 1, ["the line --- end --- is not in the output"]),
            ('--- begin ---\n[{"a": 1}]', True, 1, [CUT]),
            ('--- begin ---\n[{"a": 1}]\n--- end ---\nmore', True, 1, []),
            ("--- begin ---\n--- end ---", False, 0, [EMPTY]),
            ("--- begin ---", True, 0, [CUT]),
            (" ", False, 0, [EMPTY]),
        ],
        ids=["no begin", "no begin, cut", "no end", "no end, cut", "cut later", "nothing", "nothing, cut", "empty"],
    )  # fmt: skip
    def test_what_is_missing_is_told(self, output: str, cut: bool, rows: int, reasons: list[str]) -> None:
        found, rejects = read(output, cut=cut, **self.ENTRY)
        assert len(found) == rows
        assert [reject.reason for reject in rejects] == reasons


class TestCut:
    @pytest.mark.parametrize(
        ("output", "form", "rows"),
        [
            pytest.param('[{"a": {"a": 1}}, {"a": {"a"', "auto", 0, id="whole document"),
            pytest.param('[{"a": {"a": 1}}, {"a": {"a"', "json", 0, id="strict"),
            pytest.param('[{"a": 1}]\r\n', "auto", 1, id="after the document"),
            pytest.param('x\n[{"a": {"a": 1}}, {"a', "auto", 0, id="amid text"),
            pytest.param('x\n{"a": 1}\nx', "auto", 1, id="after a document amid text"),
            pytest.param('{"a": 1}\n{"a": 2}\n{"a', "auto", 2, id="lines"),
            pytest.param('{"a": 1}\n{"a": 2}\n{"a', "jsonl", 2, id="strict lines"),
            pytest.param("a,b\n1,2\n3,45", "auto", 1, id="CSV"),
            pytest.param('a,b\n1,2\n3,"4', "csv", 1, id="CSV in quotes"),
            pytest.param("a,b\n1,2\n3", "csv", 1, id="CSV with a short record"),
            pytest.param("a,b", "csv", 0, id="CSV header"),
            pytest.param("a,a\n1,2", "csv", 0, id="CSV with a column twice"),
            pytest.param("#TYPE a\n", "csv", 0, id="CSV before its header"),
            pytest.param("hello", "auto", 0, id="no data"),
            pytest.param("", "auto", 0, id="nothing"),
        ],
    )
    def test_no_half_row_and_one_reject_tells_how_to_mend_it(self, output: str, form: str, rows: int) -> None:
        found, rejects = read(output, cut=True, format=form)
        assert len(found) == rows
        assert [reject.reason for reject in rejects if "max_output_bytes" in reject.reason] == [CUT]


@pytest.mark.parametrize("form", ["auto", "json", "jsonl", "csv"])
@pytest.mark.parametrize("output", [None, "", " \r\n\t", "\ufeff", "\x1b[0m\n"])
def test_empty_output_is_a_reject(output: str | None, form: str) -> None:
    assert read(output, format=form) == ([], [Reject(EMPTY)])


class TestVerdict:
    LINE: dict[str, Any] = {"success_pattern": "^STATUS: ok$"}  # noqa: RUF012
    FIELD: dict[str, Any] = {"success_field": "$.ok"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("output", "entry", "cut", "verdict"),
        [
            pytest.param('{"ok": true}', {}, False, None, id="no marker"),
            pytest.param("[]\nSTATUS: ok\n", LINE, False, True, id="line"),
            pytest.param("STATUS: ok\r\n[]", LINE, False, True, id="line with CRLF"),
            pytest.param("[]\n\x1b[32mSTATUS: ok\x1b[0m", LINE, False, True, id="coloured line"),
            pytest.param("[]\nSTATUS: ok.", LINE, False, False, id="no such line"),
            pytest.param("[]\nSTATUS: ok.", LINE, True, None, id="no such line, cut"),
            pytest.param("STATUS: ok\n[", LINE, True, True, id="line, cut"),
            pytest.param(" ", LINE, False, None, id="empty"),
            pytest.param('{"ok": "True "}', FIELD, False, True, id="word"),
            pytest.param('{"ok": 0}', FIELD, False, False, id="number"),
            pytest.param('{"ok": "maybe"}', FIELD, False, None, id="another word"),
            pytest.param('{"ok": [true]}', FIELD, False, None, id="list"),
            pytest.param('{"OK": true}', FIELD, False, None, id="no field"),
            pytest.param('x\n{"ok": true}\nx\n{"ok": false}\n{"a": 1}', FIELD, False, False, id="last document"),
            pytest.param('{"a": 1}\n{"a": 2}\n{"ok": true}', FIELD, False, True, id="last line"),
            pytest.param('STATUS: ok\n{"ok": true}', {**LINE, **FIELD}, False, True, id="both"),
            pytest.param('STATUS: ok\n{"ok": false}', {**LINE, **FIELD}, False, False, id="one against"),
            pytest.param('STATUS: ok\n{"a": 1}', {**LINE, **FIELD}, False, None, id="one unknown"),
            pytest.param('x\n{"a": 1}', {**LINE, **FIELD}, False, False, id="one against, one unknown"),
            pytest.param("[]\n" + " " * 20_000 + "STATUS: ok", {"success_pattern": "ok"}, False, False, id="long line"),
        ],
    )
    def test_verdict(self, output: str, entry: dict[str, Any], cut: bool, verdict: bool | None) -> None:
        stream = ScriptStream.from_entry({"name": "a", "script_name": "b", **entry})
        assert parse(output, stream, cut=cut).succeeded is verdict


class TestJsonPath:
    @pytest.mark.parametrize(
        ("path", "document", "found"),
        [
            ("$", {"a": 1}, [{"a": 1}]),
            ("$[*]", [1], [[1]]),
            ("$.a", {"a": None}, [None]),
            ("$.a.b-c", {"a": {"b-c": 1}}, [1]),
            ("$.a", [1], []),
            ("$.a.b", {"a": 5}, []),
            ("$..a", {"a": {"a": 1}, "b": [{"a": 2}]}, [{"a": 1}, 2, 1]),
            ("$.a[?(@.b > 1)]", {"a": [{"b": 2}, {"b": "x"}, {"b": None}, 5]}, [{"b": 2}]),
            ("$['a b']", {"a b": 1}, [1]),
        ],
    )
    def test_find(self, path: str, document: Any, found: list[Any]) -> None:
        assert sorted(map(str, JsonPath(path).find(document))) == sorted(map(str, found))

    @pytest.mark.parametrize("levels", [50, 900, 20_000])
    def test_find_in_a_deep_document(self, levels: int) -> None:
        found = JsonPath("$..x").find(whole(deep(levels)))
        assert 50 <= len(found) <= 60

    @pytest.mark.parametrize("path", ["$.a + $.b", "$.*.`parent`.`parent`.`parent`"])
    def test_what_the_library_cannot_do_with_a_document_finds_nothing(self, path: str) -> None:
        assert JsonPath(path).find({"a": [], "b": {}}) == []

    @pytest.mark.parametrize("text", ["$[[", "$.", "`sub(/a/,b)`", "$.a[?(", "\\", "$ $"])
    def test_what_is_none(self, text: str) -> None:
        assert not JsonPath.is_valid(text)

    @pytest.mark.parametrize(
        ("path", "location"), [("$.a.b[*]", "$.a.b[0]"), ("$[*]", "$[0]"), ("a", "$.a[0]"), ("$..a", "$..a[0]")]
    )
    def test_locations(self, path: str, location: str) -> None:
        document: Any = {"a": [{"b": 1}]} if path != "$.a.b[*]" else {"a": {"b": [{}]}}
        rows, _ = read(json.dumps([document] if path == "$[*]" else document), records_path=path)
        assert rows[0].location == location


def test_shown_is_the_beginning() -> None:
    assert shown({"a": [Decimal("1.10"), "\x00ä\ud800"]}) == '{"a":[1.10,"ä\ufffd"]}'
    assert len(shown(["x" * 5000])) == len(shown("x" * 5000)) == 1000


def deep(levels: int) -> str:
    return '{"x":' * levels + "1" + "}" * levels


def hostile() -> Iterator[Any]:
    """Texts of a few hundred KB that would take minutes, or the stack, if each bracket of them were read for itself."""
    size = 200_000
    for part in ("[", '{"a":', "[1,", '"', "{}", '[{"a":1},', "\x1b]", "\x1b[", "\x1b[0", "[INFO] x\n", "[1/20] x\n"):
        yield pytest.param(part * (size // len(part)), id=f"{part!r} many times")
    for part in (
        "{} ",
        "{x} ",
        "{x\n",
        '{}\n{"\n{x\n',
        '["a" ',
        '["a":{',
        'a,"b\n',
        '{"a" 1}\n',
        " \n",
        "/Date(",
        "\ufeff\n",
    ):
        yield pytest.param(part * (size // len(part)), id=f"{part!r} many times")
    yield pytest.param("hello " + '{"a":' * 60_000 + " bye", id="amid text")
    yield pytest.param("[" * 2000 + '"' + '\\"' * (size // 2), id="deep, then a text without an end")
    yield pytest.param("[" * 2000 + '"' * size, id="deep, then quotes")
    yield pytest.param('{"x":[' + '{"x":1},' * 30_000 + "1]}", id="wide")
    yield pytest.param("a,b\n" + '"' * size, id="quotes in CSV")
    yield pytest.param(",".join(f"c{n}" for n in range(30_000)) + "\n1" * 20_000, id="wide header")
    for levels in (500, 950, 990, 2000, 100_000):
        yield pytest.param(deep(levels), id=f"{levels} levels")
        yield pytest.param(f"[{deep(levels)}]", id=f"{levels} levels in a list")
        yield pytest.param(f"x\n{deep(levels)}\nx", id=f"{levels} levels amid text")
        yield pytest.param(f'{{"x":[{deep(levels)}]}}\n' * 2, id=f"{levels} levels in lines")


NUMBERS = [
    '[{"a": %s}]' % ("9" * 5000),
    '[{"a": 1e99999999999999999999}]',
    '[{"a": -1e999999}]',
    '[{"a": %s.5}]' % ("9" * 5000),
    '[{"\\u0000a\\ud800": "\\ud800\\u0000", "\\u0000": {"\\udfff": "\\u0000"}}]',
]  # fmt: skip
ENTRIES: list[dict[str, Any]] = [
    {"format": "jsonl"},
    {"format": "csv"},
    {"records_path": "$..x", "success_field": "$..x"},
    {"schema": {"properties": {"x": {"type": "boolean"}, "a": {"type": "string"}}}, "success_field": "$.x"},
    {"format": "json", "records_start": "[INFO] x", "records_end": "{}", "success_pattern": "^a+$"},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
@pytest.mark.parametrize("text", [*hostile(), *NUMBERS, *(f"x\n{text}\nx" for text in NUMBERS)])
def test_a_hostile_device_prints_what_it_likes(text: str, entry: dict[str, Any]) -> None:
    table = table_of(**entry)
    for piece in pieces_of(text, **entry):
        rejects = table.cells(piece)[1] if isinstance(piece, Row) else [piece]
        assert all(len(reject.text) <= 1000 for reject in rejects)


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("around", ["%s", "x\n%s\nx"])
def test_odd_numbers_and_escapes_are_rows(text: str, around: str) -> None:
    (row,), rejects = read(around % text)
    assert rejects == []
    assert all(isinstance(value, (str, int, Decimal, dict)) for value in row.values.values())


def test_a_deep_document_is_a_row() -> None:
    rows, rejects = read(f'[{{"a": 1, "deep": {deep(20_000)}}}, {{"a": 2}}]')
    assert [row.values["a"] for row in rows] == [1, 2]
    assert rejects == []


class TestProseIsNoTable:
    """Without known columns, `auto` takes only what looks like a table."""

    @pytest.mark.parametrize(
        "output",
        [
            "Get-Software: cannot read the registry, access denied\nat line 5, char 3\n",
            "Found 3 problems, please look\nDisk C is full, call IT\nDone, bye\n",
            "WARNING: slow, very slow\nName,Version\na,1\n",
            "adduser\t3.134\tall\nzlib1g\t1.2\tall\nbash\t5.2\tall\n",
            "Name,Version\n",
        ],
        ids=["error", "sentences", "warning first", "no header", "header only"],
    )
    def test_one_error(self, output: str) -> None:
        rows, rejects = read(output)
        assert (rows, [reject.text for reject in rejects]) == ([], [output])

    @pytest.mark.parametrize(
        ("output", "rows"),
        [
            ("Name,Install Date\na,1\nb,2\n", 2),
            ('"Name","What: it, does"\n"a","1"\n', 1),
            ("Name;Size (KB);C:/x%\na;1;2\n", 0),
            ("Name;Size (KB);x/s\na;1;2\n", 1),
        ],
        ids=["blanks", "quoted", "a colon", "signs"],
    )
    def test_a_table(self, output: str, rows: int) -> None:
        assert len(read(output)[0]) == rows

    @pytest.mark.parametrize("entry", [{"records_path": "$.a[*]"}, {"success_field": "$.ok"}])
    def test_what_speaks_of_json_is_never_csv(self, entry: dict[str, Any]) -> None:
        assert read("Name,Size\na,1\nb,2\n", **entry)[0] == []

    def test_the_end_of_a_transcript_is_none_of_the_data(self) -> None:
        stars = "*" * 22
        end = f"{stars}\r\nWindows PowerShell transcript end\r\nEnd time: 20261124\r\n{stars}\r\n"
        assert values(f'"Name"\r\n"a"\r\n{end}', format="csv") == [{"Name": "a"}]

    def test_a_warning_amid_quoted_csv_is_no_row(self) -> None:
        rows, (reject,) = read('"Name","Status"\n"a","1"\nWARNING: b failed, skipped\n,"2"\n"c\nd","3"\n')
        assert [row.values["Name"] for row in rows] == ["a", None, "c\nd"]
        assert (reject.reason, reject.location) == ("is not quoted as the header is", "line 3")
