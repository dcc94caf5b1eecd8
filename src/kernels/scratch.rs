//! Buffers that are used again and again.
//!
//! A forward pass makes megabytes of intermediate results a thousand times a second. Asking the system for each would
//! cost more in page faults and zeroing than norms and activations do together (a quarter of all time, measured), so
//! dropped buffers wait here for the next taker.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers that nobody holds.
static IDLE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A slice of `f32` on loan; its first content is whatever it held before.
#[derive(Debug)]
pub struct Buffer {
    data: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` elements of any value: every one is to be written before it is read.
    pub fn take(len: usize) -> Self {
        Self { data: Self::idle(len).unwrap_or_else(|| vec![0.0; len]), len }
    }

    /// A buffer that holds a copy.
    pub fn copy_of(x: &[f32]) -> Self {
        match Self::idle(x.len()) {
            Some(mut data) => {
                data[..x.len()].copy_from_slice(x);
                Self { data, len: x.len() }
            }
            None => x.to_vec().into(),
        }
    }

    /// An idle buffer of at least `len` elements.
    fn idle(len: usize) -> Option<Vec<f32>> {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, unless it would waste more than it holds.
        let fits = |v: &Vec<f32>| v.len() >= len && v.len() / 2 <= len;
        let best = (0..idle.len()).filter(|&i| fits(&idle[i])).min_by_key(|&i| idle[i].len());
        best.map(|i| idle.swap_remove(i))
    }

    /// The elements, for good.
    pub fn into_vec(mut self) -> Vec<f32> {
        let mut data = std::mem::take(&mut self.data);
        data.truncate(self.len);
        data
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(data: Vec<f32>) -> Self {
        let len = data.len();
        Self { data, len }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.data.is_empty() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.data));
        }
    }
}

/// Gives the memory of all idle buffers back, between phases that need buffers of other sizes.
pub(crate) fn release() {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_asked_for_whatever_it_held_before() {
        let mut first = Buffer::take(1000);
        first.fill(7.0);
        drop(first);
        let second = Buffer::take(900);
        assert_eq!(second.len(), 900);
        assert_eq!(second.into_vec().len(), 900);
        assert_eq!(Buffer::copy_of(&[1.0, 2.0])[..], [1.0, 2.0]);
        assert_eq!(Buffer::from(vec![1.0, 2.0])[..], [1.0, 2.0]);
        assert!(Buffer::take(0).is_empty());
    }
}
