//! The form that the Alpaca models were tuned on.

/// An instruction as a prompt, with its input if it has one, up to where the answer begins.
///
/// Models are asked with exactly this: it is how the Alpaca models were tuned and are asked. Documents made of records
/// have a line end more between this and the answer, as the data set's own `text` column has it: they are text to
/// calibrate with or to measure, and are compared with what others made of that column.
pub(crate) fn prompt(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write \
             a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### \
             Input:\n{input}\n\n### Response:"
        )
    }
}

/// An instruction with its answer, as one document.
pub(crate) fn document(instruction: &str, input: &str, answer: &str) -> String {
    format!("{}\n{answer}", prompt(instruction, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_end_at_the_colon_and_documents_go_on_in_the_next_line() {
        let with_input = prompt("Add.", "1 2");
        assert!(
            with_input.ends_with("### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:"),
            "{with_input}"
        );
        assert!(with_input.contains("paired with an input"));
        let without = prompt("Add.", "");
        assert!(without.ends_with("request.\n\n### Instruction:\nAdd.\n\n### Response:"), "{without}");
        assert_eq!(document("Add.", "1 2", "3"), with_input + "\n3");
    }
}
