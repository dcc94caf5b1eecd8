//! Where cells are computed.

use candle_core::Device;

use super::costs::Sizes;
use super::stream::HiddenStates;

/// A device, with what it needs of the base to compare cells with.
pub(super) struct Place {
    pub device: Device,
    /// Where hidden states are between blocks.
    pub home: Device,
    /// The base's final hidden states, once they are there.
    pub base_states: Option<HiddenStates>,
}

impl Place {
    /// A device for a study of these sizes.
    pub fn new(device: Device, sizes: &Sizes) -> Self {
        let home = if sizes.states_on_device { device.clone() } else { Device::Cpu };
        Self { device, home, base_states: None }
    }
}
