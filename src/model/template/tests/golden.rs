//! What transformers itself made of templates.

use std::path::Path;

use minijinja::value::Value;
use serde_json::Value as Json;

use super::super::ChatTemplate;

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::from(number.as_f64().unwrap()), Value::from)
        }
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, item)| (key.as_str(), value(item))))
        }
    }
}

#[test]
fn templates_are_rendered_as_transformers_renders_them() {
    let Some(path) = crate::skip::shared("golden/templates.json") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let golden: Json = serde_json::from_str(&text).unwrap();
    let templates = golden["templates"].as_array().unwrap();
    assert!(templates.len() >= 53);
    let mut wrong = Vec::new();
    for case in templates {
        let mut context = vec![
            ("messages".to_string(), value(&case["messages"])),
            ("tools".into(), Value::from(())),
            ("documents".into(), Value::from(())),
            ("add_generation_prompt".into(), value(&case["add_generation_prompt"])),
            ("bos_token".into(), Value::from("<s>")),
            ("eos_token".into(), Value::from("</s>")),
        ];
        for (key, item) in case["extra"].as_object().unwrap() {
            context.push((key.clone(), value(item)));
        }
        let source = case["template"].as_str().unwrap();
        let found = ChatTemplate::new(source, Path::new("template.jinja"))
            .and_then(|template| template.render(Value::from_pairs(context)));
        let agrees = match (&found, case["output"].as_str()) {
            (Ok(found), Some(expected)) => found == expected,
            (Err(error), None) => error.exit_code() == 2,
            _ => false,
        };
        if !agrees {
            wrong.push(format!("{}: wanted {}, found {found:?}", case["name"], case["output"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
