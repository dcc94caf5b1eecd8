//! One decoder block with its weights, whatever its architecture.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::batch::Batch;
use super::cache::BlockCache;
use super::config::{BlockPlan, BlockPlans};
use super::folder::ModelFolder;
use super::forward::{
    ActivationObserver, BlockMemory, Forward, Halt, Linear, ModuleWeights, Onlookers, Watch, WeightReader,
};
use super::layout::{BlockLayout, InputSite, ModuleDef, ModuleId, TensorDef};
use super::ops::{self, Activations};
use super::rope::RopeTables;
use super::widths::BlockWidths;
use crate::error::{Error, Result};

/// Where a block has the weights of its experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertWeights {
    /// All in memory.
    Held,
    /// In the files: an expert's are read when tokens reach it, and let go of behind it.
    ReadWhenNeeded,
}

/// A decoder block on a device.
#[derive(Debug, Clone)]
pub struct Block {
    plans: BlockPlans,
    /// Features of the residual.
    hidden: usize,
    index: usize,
    modules: Vec<ModuleWeights>,
    tensors: Vec<Tensor>,
}

impl Block {
    /// Reads block `index` of a model.
    ///
    /// # Errors
    /// A file that cannot be read, or weights that are no numbers.
    pub fn load(folder: &ModelFolder, index: usize, dtype: DType, device: &Device) -> Result<Self> {
        Self::load_with(folder, index, dtype, device, ExpertWeights::Held)
    }

    /// [`Self::load`], with the experts in memory or not.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(
        folder: &ModelFolder,
        index: usize,
        dtype: DType,
        device: &Device,
        experts: ExpertWeights,
    ) -> Result<Self> {
        let tensor = |name: &str| folder.weights.tensor(name, dtype, device);
        let layout = folder.config.layout(index);
        let other = |definition: &TensorDef| -> Result<Tensor> {
            // One more than a number of few bits has more bits.
            let dtype = if definition.plus_one { DType::F32 } else { dtype };
            let parts = definition.names.iter().map(|name| folder.weights.tensor(name, dtype, device));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            let parts = if definition.is_of_experts() { kept_entries(layout, parts)? } else { parts };
            let whole = if let [one] = &parts[..] { one.flatten_all()? } else { Tensor::cat(&parts, 0)? };
            Ok(if definition.plus_one { (whole + 1.0)? } else { whole })
        };
        let tensors = layout.other_tensors().map(other).collect::<Result<_>>()?;
        let files = (experts == ExpertWeights::ReadWhenNeeded).then(|| Arc::new(folder.clone()));
        let module = |(id, module): (ModuleId, &ModuleDef)| -> Result<ModuleWeights> {
            if !layout.has(id) {
                // It keeps its number, and nobody asks for it.
                let gone = || Err(Error::failure("an expert that is left out has no weights"));
                return Ok(ModuleWeights::ReadWhenNeeded {
                    reader: Arc::new(gone),
                    bias: None,
                    packs: false,
                });
            }
            let bias = module.bias().map(|name| tensor(&name)).transpose()?;
            let Some(files) = files.clone().filter(|_| module.expert.is_some()) else {
                let weight = folder.matrix(module, dtype, device)?;
                return Ok(ModuleWeights::Held(Linear { weight, bias, packed: None }));
            };
            let (module, device) = (module.clone(), device.clone());
            let reader = Arc::new(move || files.matrix(&module, dtype, &device));
            Ok(ModuleWeights::ReadWhenNeeded { reader, bias, packs: false })
        };
        let modules = if device.is_cpu() {
            layout.modules_in_files().map(module).collect::<Result<_>>()?
        } else {
            read_together(layout.modules_in_files().collect(), module, device)?
        };
        let hidden = folder.config.hidden_size;
        Ok(Self { plans: folder.config.plans.clone(), hidden, index, modules, tensors })
    }

    fn plan(&self) -> &BlockPlan {
        self.plans.at(self.index)
    }

    /// The residual of rows of hidden states, without what travels with it.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub(crate) fn residual(&self, states: &Tensor) -> Result<Tensor> {
        Ok(states.narrow(1, 0, self.hidden)?)
    }

    /// What the block is made of.
    pub fn layout(&self) -> &BlockLayout {
        &self.plan().layout
    }

    /// Which of its parts can be narrower.
    pub(crate) fn widths(&self) -> BlockWidths {
        self.plan().decoder.widths(self.layout())
    }

    /// A module with its weights, which are read where they are not held.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn module(&self, id: ModuleId) -> Result<Linear> {
        self.modules[id.index()].linear()
    }

    /// What reads a module's weight; `None` where it is held.
    pub(crate) fn reader(&self, id: ModuleId) -> Option<WeightReader> {
        match &self.modules[id.index()] {
            ModuleWeights::Held(_) => None,
            ModuleWeights::ReadWhenNeeded { reader, .. } => Some(reader.clone()),
        }
    }

    /// Replaces a module's weight, `[out, in]`, which is held from now on.
    pub fn set_weight(&mut self, id: ModuleId, weight: Tensor) {
        let module = &mut self.modules[id.index()];
        let (ModuleWeights::Held(Linear { bias, .. }) | ModuleWeights::ReadWhenNeeded { bias, .. }) = module;
        *module = ModuleWeights::Held(Linear { weight, bias: bias.take(), packed: None });
    }

    /// Lets a module's weight be read in another way, whenever it is needed.
    pub(crate) fn set_reader(&mut self, id: ModuleId, reader: WeightReader) {
        let module = &mut self.modules[id.index()];
        let (ModuleWeights::Held(Linear { bias, .. }) | ModuleWeights::ReadWhenNeeded { bias, .. }) = module;
        *module = ModuleWeights::ReadWhenNeeded { reader, bias: bias.take(), packs: false };
    }

    /// Packs the weights that have enough zeroes, so that passes of many tokens leave the zeroes out; only on the host.
    /// Takes up to about as much memory as the weights do. Weights that are read when they are needed are packed then.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn pack(&mut self) -> Result<()> {
        for module in &mut self.modules {
            match module {
                ModuleWeights::Held(linear) => linear.packed = ops::pack(&linear.weight)?.map(Arc::new),
                ModuleWeights::ReadWhenNeeded { packs, .. } => *packs = true,
            }
        }
        Ok(())
    }

    /// Room for what this block keeps of `sequences` texts of up to `capacity` tokens.
    ///
    /// # Errors
    /// A device that has no room.
    pub fn cache(
        &self,
        sequences: usize,
        capacity: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<BlockCache> {
        match self.plan().decoder.memory() {
            BlockMemory::KeysAndValues { width } => {
                BlockCache::new(sequences, capacity, width, dtype, device)
            }
            BlockMemory::DeltaNet(shape) => Ok(BlockCache::of_delta_net(sequences, shape, device)),
        }
    }

    /// The block's output for hidden states `x`, `[rows of the batch, hidden]`.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn forward(
        &self,
        x: &Tensor,
        batch: &Batch,
        ropes: &RopeTables,
        cache: Option<&BlockCache>,
    ) -> Result<Tensor> {
        self.run(x, &mut self.pass(batch, ropes, cache, None))
    }

    /// The same without a cache, while others look on.
    ///
    /// # Errors
    /// A tensor operation that fails, and what an observer says.
    pub fn forward_observed(
        &self,
        x: &Tensor,
        batch: &Batch,
        ropes: &RopeTables,
        onlookers: Onlookers<'_>,
    ) -> Result<Tensor> {
        let watch = onlookers.inputs.map(|(sites, observer)| Watch { sites, observer, ends_there: false });
        let mut pass = self.pass(batch, ropes, None, watch);
        if let Some(experts) = onlookers.experts {
            pass.experts = Some(experts);
        }
        self.run(x, &mut pass)
    }

    fn run(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<Tensor> {
        match self.plan().decoder.forward(Activations::of(x)?, pass) {
            Ok(y) => y.into_tensor(),
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Observed) => Err(Error::failure("a pass whose output is wanted ended early")),
        }
    }

    /// [`Self::forward`] with at most `most` rows at a time, for fewer intermediate results in memory. `go_on` is asked
    /// before each.
    ///
    /// # Errors
    /// What `go_on` says; a tensor operation that fails.
    pub fn forward_in_pieces(
        &self,
        x: &Tensor,
        batch: &Batch,
        ropes: &RopeTables,
        cache: &BlockCache,
        most: usize,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Tensor> {
        let (mut outputs, mut row) = (Vec::new(), 0);
        for piece in batch.pieces(most) {
            go_on()?;
            let rows = piece.rows();
            outputs.push(self.forward(&x.narrow(0, row, rows)?, &piece, ropes, Some(cache))?);
            row += rows;
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }

    /// Shows an observer the inputs of modules, `sites` in their order, and computes nothing behind the last.
    ///
    /// # Errors
    /// A tensor operation that fails, and what the observer says.
    pub fn observe(
        &self,
        x: &Tensor,
        batch: &Batch,
        ropes: &RopeTables,
        sites: &[InputSite],
        observer: &mut dyn ActivationObserver,
    ) -> Result<()> {
        let watch = Some(Watch { sites, observer, ends_there: true });
        match self.plan().decoder.forward(Activations::of(x)?, &mut self.pass(batch, ropes, None, watch)) {
            Ok(_) | Err(Halt::Observed) => Ok(()),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    fn pass<'a>(
        &'a self,
        batch: &'a Batch,
        ropes: &'a RopeTables,
        cache: Option<&'a BlockCache>,
        watch: Option<Watch<'a>>,
    ) -> Forward<'a> {
        Forward {
            layout: self.layout(),
            modules: &self.modules,
            tensors: &self.tensors,
            batch,
            ropes,
            cache,
            watch,
            experts: None,
        }
    }
}

/// Reads the modules of a block side by side: one is looked at on the host while another one is on its way to the device.
pub(super) fn read_together<T: Send>(
    modules: Vec<(ModuleId, &ModuleDef)>,
    read: impl Fn((ModuleId, &ModuleDef)) -> Result<T> + Sync,
    device: &Device,
) -> Result<Vec<T>> {
    let read = |module| {
        let weights = read(module)?;
        // Every thread has a stream of its own on a GPU: what it has begun there is done when others see the weights.
        device.synchronize()?;
        Ok(weights)
    };
    modules.into_par_iter().map(read).collect()
}

/// Of tensors with an entry for every expert of the files, those of the experts that are there.
fn kept_entries(layout: &BlockLayout, parts: Vec<Tensor>) -> Result<Vec<Tensor>> {
    if layout.removed_experts().is_empty() {
        return Ok(parts);
    }
    let kept: Vec<u32> = layout.kept_experts().into_iter().map(|expert| expert as u32).collect();
    let entries = |whole: Tensor| {
        let kept = Tensor::from_slice(&kept, kept.len(), whole.device())?;
        Ok(whole.index_select(&kept, 0)?)
    };
    parts.into_iter().map(entries).collect()
}
