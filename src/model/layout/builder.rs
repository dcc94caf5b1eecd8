//! How an architecture declares its block.

use super::{BlockLayout, ExpertPlace, InputSite, ModuleDef, ModuleId, TensorDef, TensorId};

/// Declares the tensors of one block.
#[derive(Debug)]
pub(in crate::model) struct LayoutBuilder {
    prefix: String,
    turned: bool,
    fused: bool,
    expert: Option<ExpertPlace>,
    layout: BlockLayout,
}

/// A linear layer to declare: path within the block, outputs, and whether it has a bias.
pub(in crate::model) type LinearDef<'a> = (&'a str, usize, bool);

impl LayoutBuilder {
    /// For a block whose tensors begin with `prefix`: `model.layers.3`.
    pub fn new(prefix: String) -> Self {
        let (modules, tensors) = (Vec::new(), Vec::new());
        let layout = BlockLayout { modules, tensors, sites: 0, removed_experts: Vec::new() };
        Self { prefix, turned: false, fused: false, expert: None, layout }
    }

    /// The files have the weights of linear layers that are declared from now on as `[in, out]`.
    pub fn turn(&mut self) {
        self.turned = true;
    }

    /// Declares the linear layers of an expert, which the files have in one tensor with those of the others.
    pub fn within_fused_expert<T>(&mut self, place: ExpertPlace, declare: impl FnOnce(&mut Self) -> T) -> T {
        self.fused = true;
        let declared = self.within_expert(place, declare);
        self.fused = false;
        declared
    }

    /// Declares the linear layers of an expert.
    pub fn within_expert<T>(&mut self, place: ExpertPlace, declare: impl FnOnce(&mut Self) -> T) -> T {
        let outside = self.expert.replace(place);
        let declared = declare(self);
        self.expert = outside;
        declared
    }

    /// Linear layers that read one input of `width` features: those of one call of `Forward::linear`.
    pub fn linears<const N: usize>(&mut self, width: usize, modules: [LinearDef<'_>; N]) -> [ModuleId; N] {
        self.layout.sites += 1;
        self.linears_beside(width, modules)
    }

    /// Linear layers that read the input of those that were declared last. A pass shows that input once, in the call of
    /// the first: the others are called by `Forward::linear_beside`.
    pub fn linears_beside<const N: usize>(
        &mut self,
        width: usize,
        modules: [LinearDef<'_>; N],
    ) -> [ModuleId; N] {
        let site = InputSite(self.layout.sites.saturating_sub(1));
        let (turned, fused, expert) = (self.turned, self.fused, self.expert);
        modules.map(|(name, out, bias)| {
            let full_name = format!("{}.{name}", self.prefix);
            let shape = (out, width);
            let module =
                ModuleDef { name: name.to_owned(), full_name, shape, bias, turned, fused, site, expert };
            self.layout.modules.push(module);
            ModuleId(self.layout.modules.len() - 1)
        })
    }

    /// A linear layer that alone reads an input of `width` features.
    pub fn linear(&mut self, width: usize, module: LinearDef<'_>) -> ModuleId {
        let [id] = self.linears(width, [module]);
        id
    }

    /// Another tensor.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.stacked(&[name.to_owned()], shape, false)
    }

    /// Another tensor whose first dimension counts the experts of the block: a router, its bias, a factor for each expert.
    /// It loses the entries of experts that are left out.
    pub fn tensor_of_experts(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let id = self.tensor(name, shape);
        self.layout.tensors[id.0].of_experts = true;
        id
    }

    /// Another tensor, which is used as one more than the files say.
    pub fn tensor_plus_one(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.stacked(&[name.to_owned()], shape, true)
    }

    /// Several tensors of one shape, which are used as one.
    pub fn stacked(&mut self, names: &[String], shape: &[usize], plus_one: bool) -> TensorId {
        let names = names.iter().map(|name| format!("{}.{name}", self.prefix)).collect();
        self.layout.tensors.push(TensorDef { names, shape: shape.to_vec(), plus_one, of_experts: false });
        TensorId(self.layout.tensors.len() - 1)
    }

    pub fn finish(self) -> BlockLayout {
        self.layout
    }
}
