//! In which order steps remove parts of a model.

use super::{Family, Method};
use crate::error::{Error, Result};

/// Refuses steps that remove parts of a model and do not go together.
pub(super) fn check_structure(methods: &[&'static dyn Method]) -> Result<()> {
    let removes = |method: &&dyn Method| method.family() == Family::Structure;
    let structural: Vec<_> = methods.iter().copied().filter(|method| removes(method)).collect();
    let is_twice = structural.iter().enumerate().any(|(at, method)| structural[..at].contains(method));
    if is_twice {
        return Err(Error::mistake(
            "only one step can remove parts of one kind; accepted is one such step, at the level of both together",
        ));
    }
    if !methods.is_sorted_by_key(|method| method.family() != Family::Structure) {
        return Err(Error::mistake(
            "what removes parts of the model comes first, since nothing needs to be done to what goes; accepted is \
             depth@25%+wanda@50%, not wanda@50%+depth@25%",
        ));
    }
    if !structural.is_sorted_by_key(|method| method.block_removal().is_none()) {
        return Err(Error::mistake(
            "blocks go before parts of blocks, since nothing needs to be chosen in a block that goes; accepted is \
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
