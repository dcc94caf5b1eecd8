//! Filters that the engine lacks, or that mean something else in Python.

mod lists;
mod markup;
mod text;
mod wrap;

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, State};

pub(super) use lists::sort_values;
pub(super) use markup::escaped;

use super::json::to_json;
use super::python::{CallArguments, TemplateFunction, TemplateResult, failure};

const FILTERS: [(&str, TemplateFunction); 37] = [
    ("attr", lists::attribute),
    ("center", text::center),
    ("d", text::default),
    ("default", text::default),
    ("dictsort", lists::dictsort),
    ("e", markup::escape),
    ("escape", markup::escape),
    ("filesizeformat", text::file_size),
    ("float", text::float),
    ("forceescape", markup::force_escape),
    ("format", text::format),
    ("groupby", lists::group_by),
    ("indent", text::indent),
    ("int", text::int),
    ("join", lists::join),
    ("list", lists::list),
    ("max", lists::max),
    ("min", lists::min),
    ("pprint", text::pretty),
    ("random", random),
    ("replace", text::replace),
    ("sort", lists::sort),
    ("string", text::string),
    ("striptags", markup::strip_tags),
    ("sum", lists::sum),
    ("title", text::title),
    ("tojson", to_json),
    ("trim", text::trim),
    ("truncate", text::truncate),
    ("unique", lists::unique),
    ("urlencode", markup::url_encode),
    ("wordcount", text::word_count),
    ("wordwrap", wrap::word_wrap),
    ("xmlattr", markup::xml_attributes),
    ("capitalize", text::capitalize),
    ("lower", text::lower),
    ("upper", text::upper),
];

/// Filters of the engine that Jinja2 has not.
const FOREIGN: [&str; 5] = ["bool", "chain", "lines", "split", "zip"];

pub(super) fn add_to(environment: &mut Environment<'_>) {
    for name in FOREIGN {
        environment.remove_filter(name);
    }
    for (name, function) in FILTERS {
        environment.add_filter(name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            function(state, CallArguments::new(name, arguments.into_values())?)
        });
    }
}

fn random(_: &mut State<'_, '_>, _: CallArguments) -> TemplateResult<minijinja::Value> {
    Err(failure("`random` chooses another item each time: nothing can be measured with it"))
}
