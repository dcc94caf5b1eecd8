//! Tests (`is …`).

use super::{gives, refuses};

/// Templates and what Jinja2 3.1.6, set up as `transformers` 5.24 does, makes of them.
#[rustfmt::skip]
const GIVEN: &[(&str, &str)] = &[
    ("{{ nothing is undefined }}", "True"),
    ("{{ true is true }}", "True"),
    ("{{ 1 is true }}", "False"),
    ("{{ none is none }}", "True"),
    ("{{ '' is none }}", "False"),
    ("{{ 1 is eq 1 }}", "True"),
    ("{{ 1 is not eq 2 }}", "True"),
    ("{{ 1 is divisibleby(1) }}", "True"),
    ("{{ not 1 is odd }}", "False"),
    ("{{ 3 is odd and 4 is even }}", "True"),
    ("{{ 'a' is in 'abc' }}", "True"),
    ("{{ [1] is iterable }}", "True"),
    ("{{ 1 is iterable }}", "False"),
    ("{{ none is iterable }}", "False"),
    ("{{ nothing is iterable }}", "True"),
    ("{{ 'a' is iterable }}", "True"),
    ("{{ {} is iterable }}", "True"),
    ("{{ {} is sequence }}", "True"),
    ("{{ range(3) is sequence }}", "True"),
    ("{{ 1 is sequence }}", "False"),
    ("{{ nothing is sequence }}", "True"),
    ("{{ none is sequence }}", "False"),
    ("{{ 1 is integer }}", "True"),
    ("{{ true is integer }}", "False"),
    ("{{ true is number }}", "True"),
    ("{{ 1.0 is number }}", "True"),
    ("{{ 1.0 is integer }}", "False"),
    ("{{ true is boolean }}", "True"),
    ("{{ 1 is boolean }}", "False"),
    ("{{ 'a' is callable }}", "False"),
    ("{{ range is callable }}", "True"),
    ("{{ 1 is filter }}", "False"),
    ("{{ 'upper' is filter }}", "True"),
    ("{{ 'odd' is test }}", "True"),
    ("{{ 'a' is escaped }}", "False"),
    ("{{ 'A' is upper }}", "True"),
    ("{{ 'a1' is lower }}", "True"),
    ("{{ 1 is lower }}", "False"),
    ("{{ 1 is sameas true }}", "False"),
    ("{{ 'a' is sameas 'a' }}", "True"),
    ("{{ none is sameas none }}", "True"),
    ("{{ [] is sameas [] }}", "False"),
    ("{{ 1 is ge 1 }}", "True"),
    ("{{ 1 is lessthan 2 }}", "True"),
    ("{{ 1 is greaterthan 2 }}", "False"),
    ("{{ 1 is ne 2 }}", "True"),
    ("{{ 'a' is string }}", "True"),
    ("{{ 1 is string }}", "False"),
    ("{{ {} is mapping }}", "True"),
    ("{{ [] is mapping }}", "False"),
    ("{{ 1 is float }}", "False"),
    ("{{ 1.0 is float }}", "True"),
    ("{{ true is false }}", "False"),
    ("{{ false is false }}", "True"),
    ("{{ nothing is defined }}", "False"),
    ("{{ messages is defined }}", "True"),
    ("{{ (nothing) is defined }}", "False"),
    ("{{ messages[0].x is defined }}", "False"),
    ("{{ messages[9] is defined }}", "False"),
    ("{{ not nothing is defined }}", "True"),
    ("{{ messages[0] is mapping and messages[0].role is defined }}", "True"),
    ("{{ 'abc' is string and 'a' in 'abc' }}", "True"),
    ("{{ loop is defined }}", "False"),
    ("{{ {'a':1}['b'] is defined }}", "False"),
    ("{{ {'1':'x'}[1] is defined }}", "False"),
    ("{{ 'a' is defined and 'b' is string }}", "True"),
    ("{{ not x is defined }}", "True"),
    ("{{ x is not defined }}", "True"),
    ("{{ 1 is divisibleby 1 and 2 is even }}", "True"),
    ("{{ 5 is divisibleby(5) }}", "True"),
];

#[rustfmt::skip]
const REFUSED: &[&str] = &[
    "{{ 1 is nosuchtest }}",
    "{{ a.b.c is defined }}",
];

#[test]
fn tests_answer_as_in_jinja2() {
    gives(GIVEN);
}

#[test]
fn what_jinja2_refuses_is_refused() {
    refuses(REFUSED);
}
