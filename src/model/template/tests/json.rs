//! `tojson`.

use super::{gives, refuses};

/// Templates and what Jinja2 3.1.6, set up as `transformers` 5.24 does, makes of them.
#[rustfmt::skip]
const GIVEN: &[(&str, &str)] = &[
    ("{{ 1|tojson }}", "1"),
    ("{{ {'a':1}|tojson(indent=4) }}", "{\n    \"a\": 1\n}"),
    ("{{ [1.0,1e20,1e16,1e-7,-0.0,0.1]|tojson }}", "[1.0, 1e+20, 1e+16, 1e-07, -0.0, 0.1]"),
    ("{{ []|tojson(indent=2) }}", "[]"),
    ("{{ [[],[1,[2]],{}]|tojson(indent=2) }}", "[\n  [],\n  [\n    1,\n    [\n      2\n    ]\n  ],\n  {}\n]"),
    ("{{ {'a':[1,{'b':2}]}|tojson(indent=2,separators=(',',': ')) }}", "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ]\n}"),
    ("{{ {1:2,none:3,true:4,2.5:5}|tojson }}", "{\"1\": 4, \"null\": 3, \"2.5\": 5}"),
    ("{{ '\\u2028\\x7f\\x00\\n\\t\\b\\f\\r\\\\/'|tojson }}", "\"\u{2028}\u{7f}\\u0000\\n\\t\\b\\f\\r\\\\/\""),
    ("{{ '😀é'|tojson(ensure_ascii=true) }}", "\"\\ud83d\\ude00\\u00e9\""),
    ("{{ {'b':1,'a':{'d':1,'c':2}}|tojson(sort_keys=true,indent=1) }}", "{\n \"a\": {\n  \"c\": 2,\n  \"d\": 1\n },\n \"b\": 1\n}"),
    ("{{ (1,2)|tojson }}", "[1, 2]"),
    ("{{ [1,2]|tojson(indent='\\t') }}", "[\n\t1,\n\t2\n]"),
    ("{{ [1,2]|tojson(indent=0) }}", "[\n1,\n2\n]"),
    ("{{ {'a':1}.keys()|list|tojson }}", "[\"a\"]"),
    ("{{ true|tojson }}", "true"),
    ("{{ messages|tojson }}", "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Hello\"}, {\"role\": \"user\", \"content\": \"Who?\"}]"),
    ("{{ messages[0]|tojson(true) }}", "{\"role\": \"system\", \"content\": \"Be brief.\"}"),
    ("{{ 'nan'|float|tojson }}", "NaN"),
    ("{{ {'a':1}|tojson(separators=(',',':'),indent=2) }}", "{\n  \"a\":1\n}"),
    ("{{ [1,2]|tojson(separators=none) }}", "[1, 2]"),
];

#[rustfmt::skip]
const REFUSED: &[&str] = &[
    "{{ range(3)|tojson }}",
    "{{ nothing|tojson }}",
    "{{ {'a':nothing}|tojson }}",
    "{{ {(1,2):3}|tojson }}",
    "{{ {'a':1}.keys()|tojson }}",
    "{{ 10**20|tojson }}",
];

#[test]
fn values_become_json_as_python_writes_it() {
    gives(GIVEN);
}

#[test]
fn what_jinja2_refuses_is_refused() {
    refuses(REFUSED);
}
