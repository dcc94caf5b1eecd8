//! Templates without end, or that make more than a machine holds.

use std::time::{Duration, Instant};

use super::render;

/// Each of these would run for hours, take gigabytes or overflow the stack.
#[test]
fn what_does_not_end_or_makes_too_much_is_stopped() {
    let nested = |inside: &str| {
        format!(
            "{{% for i in range(99999) %}}{{% for j in range(99999) %}}{inside}{{% endfor %}}{{% endfor %}}"
        )
    };
    let growing = |start: &str, grown: &str| {
        format!(
            "{{% set it = namespace(a={start}) %}}{{% for i in range(99999) %}}{{% set it.a = {grown} %}}{{% endfor %}}"
        )
    };
    let shared = |question: &str| {
        let start = "{% set it = namespace(a=[], b=[]) %}{% for i in range(60) %}";
        let step = "{% set it.a = [it.a, it.a] %}{% set it.b = [it.b, it.b] %}{% endfor %}";
        format!("{start}{step}{{{{ {question} }}}}")
    };
    let began = Instant::now();
    for template in [
        nested("{% for k in range(99999) %}{% endfor %}"),
        nested("{% set x = 'a' ~ i %}"),
        growing("'text'", "it.a ~ it.a"),
        growing("'text'", "it.a + it.a"),
        growing("'text'", "it.a|replace('t', 'tt')"),
        growing("'text'", "[it.a, it.a]|join"),
        growing("'text'", "'%s%s' % (it.a, it.a)"),
        growing("'text'", "'{0}{0}'.format(it.a)"),
        growing("'text'", "it.a * 3"),
        growing("[1]", "it.a + it.a"),
        growing("[1]", "it.a + [i]"),
        nested("").replace("{% for j", "{% set x = [] %}{% for j") + &growing("[]", "[it.a]"),
        shared("it.a|tojson"),
        shared("it.a"),
        shared("it.a == it.b"),
        shared("it.a < it.b"),
        shared("it.a in [it.b]"),
        shared("[it.a, it.b]|unique|list|length"),
    ] {
        let message = render(&template).unwrap_err().to_string();
        assert!(
            message
                .starts_with("folder/chat_template.jinja: the chat template was stopped after 1000000 steps"),
            "{template}: {message}"
        );
    }
    // A second each at the very most; the test is that it is not hours.
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
}

#[test]
fn a_prompt_longer_than_any_model_reads_is_refused() {
    let template = format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "text".repeat(100));
    let message = render(&template).unwrap_err().to_string();
    assert!(
        message
            .starts_with("folder/chat_template.jinja: the chat template makes a prompt of more than 16 MiB"),
        "{message}"
    );
}

#[test]
fn a_single_huge_value_is_refused_before_it_is_made() {
    for template in [
        "{{ 'x' * 10**10 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'.ljust(10**12) }}",
        "{{ 'a'.zfill(10**12) }}",
        "{{ 'a'|center(10**12) }}",
        "{{ 'a\\nb'|indent(10**12) }}",
        "{{ [1]|tojson(indent=10**12) }}",
        "{{ '\\t'.expandtabs(10**12) }}",
        "{{ range(10**9)|list }}",
        "{{ 10**100000 }}",
        "{{ strftime_now('%1000000000d') }}",
    ] {
        let error = render(template).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{template}");
    }
}

/// On the least stack that a thread of any program has: the limits are not those of who asks.
#[test]
fn recursion_and_nesting_without_end_are_refused() {
    let small = std::thread::Builder::new().stack_size(256 << 10);
    small.spawn(refuse_recursion_and_nesting).unwrap().join().unwrap();
}

fn refuse_recursion_and_nesting() {
    let many = |open: &str, inside: &str, close: &str| {
        format!("{}{inside}{}", open.repeat(50_000), close.repeat(50_000))
    };
    for template in [
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_string(),
        "{% macro f() %}{{ f(*varargs) }}{% endmacro %}{{ f(0) }}".to_string(),
        "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}".to_string(),
        format!("{{{{ {} }}}}", many("(", "1", ")")),
        format!("{{{{ {} }}}}", many("[", "", "]")),
        format!("{{{{ {} }}}}", many("not ", "1", "")),
        format!("{{{{ {} }}}}", many("-", "1", "")),
        format!("{{{{ {} }}}}", many("", "1", " + 1")),
        format!("{{{{ {} }}}}", many("", "1", "|string")),
        format!("{{{{ {} }}}}", many("", "a", "[0]")),
        format!("{{{{ {} }}}}", many("1 if 0 else ", "1", "")),
        many("{% if 1 %}", "", "{% endif %}"),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(50_000)),
    ] {
        let error = render(&template).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{}", &template[..40]);
    }
}

/// The longest conversations that people have are far from the limits.
#[test]
fn a_prompt_of_a_megabyte_is_rendered() {
    let template = "{% set ns = namespace(n=0) %}{% for m in messages * 1000 %}{% if m.role == 'user' %}\
                    {% set ns.n = ns.n + 1 %}{% endif %}{{ '<|im_start|>' + m.role + '\\n' + m.content|trim + '<|im_end|>' }}\
                    {{ 'x' * 200 }}{% endfor %}{{ ns.n }}";
    let prompt = render(template).unwrap();
    assert!(prompt.len() > 900_000 && prompt.ends_with("2000"), "{}", prompt.len());
}
