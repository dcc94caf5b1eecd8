//! What becomes of one module of a block: its method runs on the host or where the weights lie, and what comes out is stored
//! as it is computed with.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::allocation::SHARE_DETAIL;
use super::assignment::Assignment;
use super::control::Control;
use super::place::Place;
use super::structure::{added_bias_bits, untouched};
use super::study::Study;
use crate::error::{Error, Result};
use crate::methods::{
    CompressionOutcome, DeviceMatrix, Encoded, InputStatistics, Matrix, Procedure, RoutedTokens,
};
use crate::model::ops::with_elements;
use crate::model::{Block, ModelFolder, ModuleId};
use crate::results::{Footprint, ModuleResult};
use crate::store::checkpoint::Stored;
use crate::store::stored::footprint;

/// Compresses the modules of a cell.
pub(super) struct Compressor<'a> {
    pub study: &'a Study,
    pub place: &'a Place,
    pub assignment: &'a Assignment,
    /// The model that comes out.
    pub model: &'a ModelFolder,
    pub control: Arc<Control>,
}

/// What became of a module.
struct Compressed {
    /// As it is computed with.
    weight: Tensor,
    /// As it goes to the disk.
    stored: Stored,
    footprint: Footprint,
    outcome: CompressionOutcome,
}

impl Compressor<'_> {
    /// The model that blocks are loaded of.
    fn files(&self) -> &ModelFolder {
        self.assignment.files(self.study)
    }

    /// Compresses a module; returns what is known of it, as what it goes to the disk, and as what it is computed with.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the cell is to end; anything that fails.
    pub fn compress(
        &self,
        block: &Block,
        index: usize,
        id: ModuleId,
        procedure: &Procedure,
        inputs: Option<&mut InputStatistics>,
    ) -> Result<(ModuleResult, Stored, Tensor)> {
        let started = Instant::now();
        let module = block.layout().module(id).clone();
        let routed = inputs.as_ref().and_then(|inputs| inputs.routed);
        let compressed = if procedure.works_on_device() && !self.place.device.is_cpu() {
            self.compress_on_device(block, id, procedure, inputs)?
        } else {
            self.compress_on_host(block, (index, id), procedure, inputs)?
        };
        let Compressed { mut outcome, stored, footprint, weight } = compressed;
        outcome.details.extend(routed.map(RoutedTokens::details));
        if self.assignment.profile.is_some() {
            // As people read it; the profile has all digits.
            outcome.details.put(SHARE_DETAIL, (procedure.zeros() * 1e6).round() / 1e6);
        }
        let result = ModuleResult {
            block: index,
            name: module.full_name,
            footprint: self.with_bias((index, id), footprint),
            reconstruction_error: outcome.error,
            error_basis: outcome.basis,
            dead_columns: outcome.dead_columns,
            details: outcome.details,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((result, stored, weight))
    }

    fn compress_on_host(
        &self,
        block: &Block,
        (index, id): (usize, ModuleId),
        procedure: &Procedure,
        mut inputs: Option<&mut InputStatistics>,
    ) -> Result<Compressed> {
        let module = block.layout().module(id);
        let (rows, columns) = module.shape;
        let source = self.files().stored_dtype(module);
        let mut weights = self.source_weights(block, id)?;
        if let Some(inputs) = &mut inputs {
            inputs.move_to_host()?;
        }
        let left_out = self.assignment.removed.blocks.iter().filter(|dropped| **dropped < index).count();
        let place = self.model.config.matrix_place(index - left_out, id);
        let matrix = Matrix { dtype: source, place, ..Matrix::new(&mut weights, columns) };
        let stop = || self.control.cancelled();
        let mut outcome = procedure.run(matrix, inputs, &stop)?;
        let device = &self.place.device;
        let stored = match outcome.encoded.take() {
            Some(Encoded::Codes(codes)) => Stored::Codes(codes),
            Some(Encoded::Blocks(blocks)) => Stored::Blocks(blocks),
            None => Stored::keep(&mut weights, [rows, columns], source, procedure.updates_weights())?,
        };
        let footprint = stored.footprint(&weights, 8 * source.size_in_bytes());
        let weight = if device.is_cpu() {
            Tensor::from_vec(weights, (rows, columns), device)?
        } else {
            stored.for_device(&mut weights, source)?.to_device(device)?
        };
        Ok(Compressed { weight, stored, footprint, outcome })
    }

    /// As on the host, except that only what is stored comes there.
    fn compress_on_device(
        &self,
        block: &Block,
        id: ModuleId,
        procedure: &Procedure,
        inputs: Option<&mut InputStatistics>,
    ) -> Result<Compressed> {
        let module = block.layout().module(id);
        let source = self.files().stored_dtype(module);
        let loaded = block.module(id)?.weight;
        let weights = if loaded.dtype() == source || loaded.dtype() == DType::F32 {
            loaded.to_dtype(DType::F32)?
        } else {
            // The block's weights were rounded to the precision that is computed in.
            self.files().matrix(module, DType::F32, &self.place.device)?
        };
        let stop = || self.control.cancelled();
        let matrix = DeviceMatrix { dtype: source, ..DeviceMatrix::new(&weights) };
        let (weights, mut outcome) = procedure.run_on_device(matrix, inputs, &stop)?;
        let (stored, weight, footprint) = match outcome.encoded.take() {
            Some(Encoded::Codes(codes)) => Stored::keep_codes_from_device(codes, weights)?,
            Some(Encoded::Blocks(_)) => return Err(Error::failure("blocks of a format came from a device")),
            None => Stored::keep_from_device(&weights, source, procedure.updates_weights())?,
        };
        Ok(Compressed { weight, stored, footprint, outcome })
    }

    /// A module's weights as the model's files have them, in `f32` on the host.
    fn source_weights(&self, block: &Block, id: ModuleId) -> Result<Vec<f32>> {
        let weight = block.module(id)?.weight;
        if weight.device().is_cpu() && weight.dtype() == DType::F32 {
            return with_elements(&weight, <[f32]>::to_vec);
        }
        let module = block.layout().module(id);
        let weight = self.files().matrix(module, DType::F32, &Device::Cpu)?;
        with_elements(&weight, <[f32]>::to_vec)
    }

    /// A module that stays as it is in a cell that only leaves blocks out.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn unchanged(&self, block: &Block, index: usize, id: ModuleId) -> Result<ModuleResult> {
        let weights = self.source_weights(block, id)?;
        let module = block.layout().module(id);
        let zeros = weights.iter().filter(|weight| **weight == 0.0).count() as u64;
        let bits = 8 * self.files().stored_dtype(module).size_in_bytes();
        let footprint = footprint(weights.len() as u64, zeros, bits);
        Ok(untouched(index, &module.full_name, self.with_bias((index, id), footprint)))
    }

    /// What a module takes, with the bias that it has only because its block is narrower.
    fn with_bias(&self, (index, id): (usize, ModuleId), footprint: Footprint) -> Footprint {
        let module = self.files().config.layout(index).module(id);
        let bits = added_bias_bits(self.study, self.files(), module);
        let (stored_bits, packed_bits) = (footprint.stored_bits + bits, footprint.packed_bits + bits);
        Footprint { stored_bits, packed_bits, ..footprint }
    }
}
