//! Patterns for the names of modules.

/// Whether a text is what a pattern says: `*` is any number of characters, `?` is one.
pub(super) fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The last star, and how far the text had come when it was met: where to try again with one character more.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                p = star + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, fits) in [
            ("q_proj", "q_proj", true),
            ("q_proj", "qq_proj", false),
            ("*", "", true),
            ("*", "mlp.up_proj", true),
            ("mlp.*", "mlp.up_proj", true),
            ("mlp.*", "self_attn.q_proj", false),
            ("*_proj", "mlp.up_proj", true),
            ("?_proj", "q_proj", true),
            ("?_proj", "up_proj", false),
            ("*.experts.*.w1", "moe.experts.12.w1", true),
            ("*a*b", "xxaxbxb", true),
            ("*a*b", "xxaxbxc", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches_glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_with_parts_left_out_matches_itself(text in "[ab.]{0,12}", from in 0usize..12, len in 0usize..12) {
            let from = from.min(text.len());
            let to = (from + len).min(text.len());
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(matches_glob(&pattern, &text));
            let pattern = format!("{}{}{}", &text[..from], "?".repeat(to - from), &text[to..]);
            prop_assert!(matches_glob(&pattern, &text));
            let longer = format!("{text}?");
            prop_assert!(!matches_glob(&longer, &text));
        }
    }
}
