//! Where cells are computed.

use candle_core::Device;

use super::costs::Sizes;
use super::leftovers::Leftovers;
use super::snapshot::Snapshots;
use super::stream::HiddenStates;
use crate::error::Result;

/// A device, with what it needs of the base to compare cells with.
pub(super) struct Place {
    pub device: Device,
    /// Where hidden states are between blocks.
    pub home: Device,
    /// What cells are compared with, once it is there.
    pub base: Option<BaseStates>,
    /// What cells leave on the disk.
    pub leftovers: Leftovers,
}

/// The base's final hidden states in memory, and on their way to the disk.
pub(super) struct BaseStates {
    pub states: HiddenStates,
    pub saving: Snapshots,
}

impl Place {
    /// A device for a study of these sizes.
    pub fn new(device: Device, sizes: &Sizes) -> Self {
        let home = if sizes.states_on_device { device.clone() } else { Device::Cpu };
        Self { device, home, base: None, leftovers: Leftovers::default() }
    }
    /// The base's final hidden states of the evaluation windows, once they are there.
    pub fn base_states(&self) -> Option<&HiddenStates> {
        self.base.as_ref().map(|base| &base.states)
    }

    /// Waits until the base's final states are on the disk, where others and later runs find them.
    ///
    /// # Errors
    /// What went wrong with them.
    pub fn finish_saving_base(&mut self) -> Result<()> {
        self.base.as_mut().map_or(Ok(()), |base| base.saving.wait())
    }
}
