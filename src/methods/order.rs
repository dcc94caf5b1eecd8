//! In which order steps remove parts of a model.

use super::{Family, Method};
use crate::error::{Error, Result};

/// Refuses steps that remove parts of a model and do not go together.
pub(super) fn check_structure(methods: &[&'static dyn Method]) -> Result<()> {
    let place = |found: &dyn Fn(&dyn Method) -> bool| -> Vec<usize> {
        let all = methods.iter().enumerate().filter(|(_, method)| found(**method));
        all.map(|(place, _)| place).collect()
    };
    let structural = place(&|method| method.family() == Family::Structure);
    let depth = place(&|method| method.block_removal().is_some());
    let width = place(&|method| method.width_removal().is_some());
    if depth.len() > 1 || width.len() > 1 {
        return Err(Error::mistake(
            "only one step can remove parts of the model in one way; accepted is one such step, at the level of both \
             together",
        ));
    }
    if structural.iter().enumerate().any(|(expected, place)| expected != *place) {
        return Err(Error::mistake(
            "what removes parts of the model comes first, since nothing needs to be done to what goes; accepted is \
             depth@25%+wanda@50%, not wanda@50%+depth@25%",
        ));
    }
    if depth.iter().zip(&width).any(|(depth, width)| width < depth) {
        return Err(Error::mistake(
            "whole blocks go before others get narrower, since nothing needs to be chosen in what goes; accepted is \
             depth@25%+width@20%, not width@20%+depth@25%",
        ));
    }
    Ok(())
}

/// The least number that both divide.
pub(crate) fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a.max(1), b.max(1));
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a.max(1) / divisor * b.max(1)
}
