//! Objects that functions, filters and methods make, and that are written as Python writes them.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};

/// Numbers at equal distances.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberRange {
    pub start: i64,
    pub stop: i64,
    pub step: i64,
    pub length: usize,
}

impl NumberRange {
    /// As Python writes it.
    pub fn text(&self) -> String {
        let step = if self.step == 1 { String::new() } else { format!(", {}", self.step) };
        format!("range({}, {}{step})", self.start, self.stop)
    }

    fn number(&self, index: usize) -> i64 {
        self.start.wrapping_add(self.step.wrapping_mul(index as i64))
    }
}

impl Object for NumberRange {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("start") => Some(self.start.into()),
            Some("stop") => Some(self.stop.into()),
            Some("step") => Some(self.step.into()),
            _ => key.as_usize().filter(|index| *index < self.length).map(|index| self.number(index).into()),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let range = **self;
        Enumerator::RevIter(Box::new((0..self.length).map(move |index| Value::from(range.number(index)))))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.length)
    }
}

/// What `keys()`, `values()` and `items()` of a dictionary give.
#[derive(Debug)]
pub(super) struct DictView {
    type_name: &'static str,
    items: Vec<Value>,
}

impl DictView {
    pub fn value(type_name: &'static str, items: Vec<Value>) -> Value {
        Value::from_object(Self { type_name, items })
    }

    pub fn type_name(&self) -> &'static str {
        self.type_name
    }
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// A group of `groupby`: a pair with names.
#[derive(Debug)]
pub(super) struct ItemGroup {
    pub grouper: Value,
    pub list: Vec<Value>,
}

impl Object for ItemGroup {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_usize(), key.as_str()) {
            (Some(0), _) | (_, Some("grouper")) => Some(self.grouper.clone()),
            (Some(1), _) | (_, Some("list")) => Some(Value::from(self.list.clone())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}
