//! Lists as they are typed: split into items and put together again.

/// The items of a list with commas, without blanks around them and without empty ones. A comma that belongs to an item
/// has a backslash before it, or the item stands in double quotes.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    let (mut items, mut item, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A backslash before anything else is one: Windows has them in paths.
            '\\' => item.push(chars.next_if(|next| [',', '"'].contains(next)).unwrap_or(c)),
            '"' if quoted || item.trim().is_empty() => quoted = !quoted,
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    items.push(item);
    items.iter().map(|item| item.trim()).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Items as one line that [`split_list`] takes apart again.
pub(crate) fn join_list<S: AsRef<str>>(items: &[S]) -> String {
    let escaped = |item: &S| item.as_ref().replace(',', "\\,").replace('"', "\\\"");
    items.iter().map(escaped).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_split_at_commas_that_belong_to_no_item() {
        for (text, items) in [
            ("a,b", &["a", "b"][..]),
            (" a , b c ,, ", &["a", "b c"]),
            ("", &[]),
            ("\"\"", &[]),
            ("a\\,b.txt,c", &["a,b.txt", "c"]),
            ("\"a, b.txt\", c", &["a, b.txt", "c"]),
            ("C:\\data\\a.txt,5\" disk", &["C:\\data\\a.txt", "5\" disk"]),
        ] {
            assert_eq!(split_list(text), items, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_joined_list_is_split_into_the_same_items(
            items in proptest::collection::vec("[a-z,./\" ]{0,6}[a-z,.\"]", 0..5)
        ) {
            let items: Vec<String> = items.iter().map(|item| item.trim().to_owned()).collect();
            prop_assert_eq!(split_list(&join_list(&items)), items);
        }
    }
}
