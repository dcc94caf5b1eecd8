//! Templates of our own, with what Jinja2 makes of them where it is set up as `transformers` sets it up.

mod checks;
mod days;
mod filters;
mod formats;
mod golden;
mod grammar;
mod json;
mod limits;
mod methods;
mod operators;

use minijinja::context;
use proptest::prelude::*;

use super::*;

/// What a template makes of a conversation of four.
fn render(template: &str) -> Result<String> {
    let message = |role: &str, content: &str| context! { role, content };
    let messages = vec![
        message("system", "Be brief."),
        message("user", "Hi"),
        message("assistant", "Hello"),
        message("user", "Who?"),
    ];
    let context = context! {
        messages,
        tools => (),
        documents => (),
        add_generation_prompt => true,
        bos_token => "<s>",
        eos_token => "</s>",
    };
    ChatTemplate::new(template, Path::new("folder/chat_template.jinja"))?.render(context)
}

/// All templates give what they should.
fn gives(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(template, expected)| {
            let found = render(template);
            let differs = !matches!(&found, Ok(found) if found == expected);
            differs.then(|| format!("{template}\n  wanted {expected:?}\n  found  {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// All templates are refused as mistakes, by messages that name the file.
fn refuses(templates: &[&str]) {
    for template in templates {
        match render(template) {
            Ok(found) => panic!("{template} gives {found:?}"),
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{template}");
                let message = error.to_string();
                assert!(message.starts_with("folder/chat_template.jinja: the chat template "), "{message}");
                assert!(!message.contains('\n'), "{message}");
            }
        }
    }
}

fn message(template: &str) -> String {
    render(template).unwrap_err().to_string()
}

#[test]
fn line_ends_of_the_source_are_those_of_unix() {
    let unix = "{% for m in messages %}\n{{ m.role }}\n{% endfor %}\n'{{ 'a\nb' }}'\n";
    let expected = "system\nuser\nassistant\nuser\n'a\nb'";
    assert_eq!(render(unix).unwrap(), expected);
    assert_eq!(render(&unix.replace('\n', "\r\n")).unwrap(), expected);
    assert_eq!(render(&unix.replace('\n', "\r")).unwrap(), expected);
}

#[test]
fn dictionaries_keep_the_order_they_were_written_in() {
    let template = "{% set steps = {'S1': 1, 'S10': 10, 'S2': 2} %}{{ steps|join(' ') }} {{ dict(z=1, a=2) }} \
                    {% for step, number in steps.items() %}{{ step }}={{ number }};{% endfor %}";
    assert_eq!(render(template).unwrap(), "S1 S10 S2 {'z': 1, 'a': 2} S1=1;S10=10;S2=2;");
}

#[test]
fn without_tools_their_branch_is_not_taken() {
    let template = "{% if tools is iterable and tools|length > 0 %}tools{% else %}none{% endif %}";
    assert_eq!(render(template).unwrap(), "none");
    assert_eq!(render("{% if tools is not none %}{{ tools|length }}{% endif %}.").unwrap(), ".");
}

#[test]
fn mistakes_in_a_template_are_named_with_their_line() {
    assert_eq!(
        message("a\n{% if messages %}\n{{ 1 + }}\n{% endif %}"),
        "folder/chat_template.jinja: the chat template cannot be understood: line 3: the tag ends where an expression is \
         wanted"
    );
    assert_eq!(
        message("{#\n#}\n{{ raise_exception('roles must\nalternate') }}").replace('\n', " "),
        "folder/chat_template.jinja: the chat template fails on a task: line 3: roles must alternate"
    );
    assert!(
        message("{% raw %}\n{% endraw %}\n{% macro f() %}\n{{ varargs }}{% endmacro %}\n{{ 'a'.b() }}")
            .contains("line 5")
    );
    for (template, what) in [
        ("{% include 'x' %}", "no other"),
        ("{% do [] %}", "no statement `do`"),
        ("{% raw %}", "no `endraw`"),
        ("{{ 'a }}", "a string has no end"),
        ("{# a", "a comment has no end"),
        ("{{ (1] }}", "`]` closes nothing"),
        ("{{ [1].append(2) }}", "changes a list"),
        ("{{ [1]|random }}", "nothing can be measured with it"),
        ("{{ ''|nosuch }}", "nosuch"),
        ("{{ messages.x.y }}", "undefined"),
    ] {
        let message = message(template);
        assert!(message.contains(what), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_template_is_used_or_refused_but_never_a_panic(
        template in "(\\{%|%\\}|\\{\\{|\\}\\}|-|\\+| |generation|if|for|in|macro f\\(a\\)|set|raw|é|end|x|'|\\[|\\]|\\(|\\)|:|%|1|\\||is|,|=|\\n){0,16}"
    ) {
        let _ = render(&template);
    }

    #[test]
    fn any_text_passes_through_json_and_back(text in any::<String>(), ascii in any::<bool>()) {
        let template = ChatTemplate::new("{{ text|tojson(ensure_ascii=ascii) }}", Path::new("t")).unwrap();
        let written = template.render(context! { text => text.as_str(), ascii }).unwrap();
        prop_assert!(!ascii || written.is_ascii());
        prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    #[test]
    fn floats_are_written_so_that_they_are_read_back(number in any::<f64>().prop_filter("a number", |n| n.is_finite())) {
        let text = super::python::float_text(number);
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
        prop_assert!(text.contains(['.', 'e']), "{}", text);
    }
}
