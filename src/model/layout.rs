//! What a block is made of, as data: the linear layers that can be compressed, with their names, tensors, shapes and
//! inputs, and the other tensors beside them.
//!
//! An architecture declares its block once, through a [`LayoutBuilder`], and gets numbers back that its forward pass uses.
//! Loading, checking, checkpoints, export, costs and the dashboard read the same declaration.

mod builder;
mod glob;

pub(super) use self::builder::LayoutBuilder;
use self::glob::matches_glob;

/// A linear layer of a block: its place in the block's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(usize);

impl ModuleId {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// A place in the block where one input feeds one or several modules, in the order in which a forward pass reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputSite(usize);

/// A tensor of a block that is no linear layer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TensorId(usize);

impl TensorDef {
    /// Whether its first dimension counts the experts of the block.
    pub fn is_of_experts(&self) -> bool {
        self.of_experts
    }
}

impl TensorId {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// Where a linear layer of a mixture of experts belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertPlace {
    /// The expert, from 0.
    pub index: usize,
    /// Experts of the block.
    pub experts: usize,
    /// How many of them a token goes through.
    pub chosen: usize,
}

/// A linear layer of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleDef {
    /// Its path within the block: `self_attn.q_proj`.
    pub name: String,
    /// The path of the model's file: `model.layers.3.self_attn.q_proj`.
    pub full_name: String,
    /// Shape of the weight: `(out, in)`.
    pub shape: (usize, usize),
    /// Whether it has a bias, `[out]`.
    pub bias: bool,
    /// Whether the files have the weight as `[in, out]`, as `Conv1D` of transformers has it. It is turned when it is read,
    /// and back when it is exported: everything between sees `[out, in]`.
    pub turned: bool,
    /// Whether the files have it in one tensor with those of the block's other experts, `[experts, ..]`, see
    /// [`Self::fused_tensor`].
    pub fused: bool,
    /// Where it reads its input.
    pub site: InputSite,
    /// The expert that it is part of: it sees the tokens that are routed there. `None` sees every token.
    pub expert: Option<ExpertPlace>,
}

impl ModuleDef {
    /// Name of the weight's tensor.
    pub fn weight(&self) -> String {
        format!("{}.weight", self.full_name)
    }

    /// Name of the bias' tensor, where there is one.
    pub fn bias(&self) -> Option<String> {
        self.bias.then(|| format!("{}.bias", self.full_name))
    }

    /// The tensor of the files that holds the weights of all experts one behind the other, where there is one:
    /// `mlp.experts.gate_up_proj` for `mlp.experts.3.gate_up_proj`.
    pub fn fused_tensor(&self) -> Option<String> {
        let (path, layer) = self.full_name.rsplit_once('.').filter(|_| self.fused)?;
        path.rsplit_once('.').map(|(experts, _)| format!("{experts}.{layer}"))
    }

    /// The tensors of the files that are cut into one for each expert: the tensor, the name that the piece of this
    /// expert has, and the piece's shape.
    pub(super) fn pieces(&self) -> Vec<(String, String, Vec<usize>)> {
        let Some(tensor) = self.fused_tensor() else { return Vec::new() };
        let bias = self.bias().map(|name| (format!("{tensor}_bias"), name, vec![self.shape.0]));
        let weight = (tensor, self.weight(), self.stored_shape().to_vec());
        [Some(weight), bias].into_iter().flatten().collect()
    }

    /// Shape of the weight in the files.
    pub fn stored_shape(&self) -> [usize; 2] {
        let (out, input) = self.shape;
        if self.turned { [input, out] } else { [out, input] }
    }

    /// Weights in the matrix.
    pub fn elements(&self) -> usize {
        self.shape.0 * self.shape.1
    }

    /// The share of tokens that it sees, if all experts see as many.
    pub fn token_share(&self) -> f64 {
        self.expert.map_or(1.0, |expert| expert.chosen as f64 / expert.experts as f64)
    }

    /// Weights that a token is multiplied with, in the mean.
    pub fn elements_per_token(&self) -> f64 {
        self.elements() as f64 * self.token_share()
    }

    /// The last part of the path, `q_proj`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// A tensor of a block that is no linear layer's: a norm's weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorDef {
    /// The tensors of the files that it is put together from, one behind the other; nearly always one.
    pub names: Vec<String>,
    /// Shape of each.
    shape: Vec<usize>,
    /// It is used as one more than the files say, in `f32`.
    pub plus_one: bool,
    /// Its first dimension counts the experts of the block: a router.
    of_experts: bool,
}

/// All tensors of a block, in the order in which a forward pass needs the modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLayout {
    modules: Vec<ModuleDef>,
    tensors: Vec<TensorDef>,
    sites: usize,
    /// Experts of the files that are left out, in ascending order. Their modules keep their numbers, and are nowhere else.
    removed_experts: Vec<usize>,
}

impl BlockLayout {
    /// The modules with their numbers.
    pub fn modules(&self) -> impl Iterator<Item = (ModuleId, &ModuleDef)> {
        self.modules_in_files().filter(|(id, _)| self.has(*id))
    }

    /// The same with those of experts that are left out.
    pub(crate) fn modules_in_files(&self) -> impl Iterator<Item = (ModuleId, &ModuleDef)> {
        self.modules.iter().enumerate().map(|(i, module)| (ModuleId(i), module))
    }

    /// Whether a module is there: its expert may be left out.
    pub(crate) fn has(&self, id: ModuleId) -> bool {
        self.module(id).expert.is_none_or(|expert| !self.removed_experts.contains(&expert.index))
    }

    /// How many experts there are, and how many of them a token goes through; `None` where there is one dense MLP.
    pub(crate) fn experts(&self) -> Option<(usize, usize)> {
        self.modules.iter().find_map(|module| module.expert).map(|expert| (expert.experts, expert.chosen))
    }

    /// Experts of the files that are left out, in ascending order.
    pub(crate) fn removed_experts(&self) -> &[usize] {
        &self.removed_experts
    }

    /// Experts of the files that are there, in ascending order.
    pub(crate) fn kept_experts(&self) -> Vec<usize> {
        let all = self.experts().map_or(0, |(experts, _)| experts) + self.removed_experts.len();
        (0..all).filter(|expert| !self.removed_experts.contains(expert)).collect()
    }

    /// The same block without some experts, by their numbers in the files. What has an entry for every expert has one for
    /// those that stay.
    pub(super) fn without_experts(&self, removed: &[usize]) -> Self {
        let gone = |expert: &usize| self.removed_experts.contains(expert) || removed.contains(expert);
        let all = self.experts().map_or(0, |(experts, _)| experts) + self.removed_experts.len();
        self.with_experts_removed((0..all).filter(gone).collect())
    }

    /// The same block with all experts that the files have.
    pub(super) fn with_all_experts(&self) -> Self {
        self.with_experts_removed(Vec::new())
    }

    fn with_experts_removed(&self, removed: Vec<usize>) -> Self {
        let all = self.experts().map_or(0, |(experts, _)| experts) + self.removed_experts.len();
        let left = all - removed.len();
        let mut layout = Self { removed_experts: removed, ..self.clone() };
        for expert in layout.modules.iter_mut().filter_map(|module| module.expert.as_mut()) {
            expert.experts = left;
        }
        for tensor in layout.tensors.iter_mut().filter(|tensor| tensor.of_experts) {
            tensor.shape[0] = left;
        }
        layout
    }

    /// Names of the tensors of which only the entries of [`Self::kept_experts`] are left; none where all experts are there.
    pub(crate) fn cut_tensors(&self) -> Vec<String> {
        if self.removed_experts.is_empty() {
            return Vec::new();
        }
        let routers = self.tensors.iter().filter(|tensor| tensor.of_experts);
        let fused =
            self.modules.iter().filter(|module| module.expert.is_some_and(|expert| expert.index == 0));
        let pieces = fused.flat_map(ModuleDef::pieces).map(|(tensor, ..)| tensor);
        routers.flat_map(|tensor| tensor.names.iter().cloned()).chain(pieces).collect()
    }

    pub(crate) fn module(&self, id: ModuleId) -> &ModuleDef {
        &self.modules[id.0]
    }

    /// The module of a path within the block.
    pub fn find(&self, name: &str) -> Option<ModuleId> {
        self.modules().find(|(_, module)| module.name == name).map(|(id, _)| id)
    }

    /// Input sites with the number of features that each has.
    pub fn sites(&self) -> impl Iterator<Item = (InputSite, usize)> {
        let width = |site| self.modules().find(|(_, m)| m.site == site).map(|(_, m)| (site, m.shape.1));
        (0..self.sites).map(InputSite).filter_map(width)
    }

    /// Weights of all modules.
    pub fn elements(&self) -> usize {
        self.modules().map(|(_, module)| module.elements()).sum()
    }

    /// Weights that a token is multiplied with, in the mean.
    pub fn elements_per_token(&self) -> f64 {
        self.modules().map(|(_, module)| module.elements_per_token()).sum()
    }

    /// Every tensor with its shape: those beside the modules first.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        for tensor in &self.tensors {
            all.extend(tensor.names.iter().map(|name| (name.clone(), tensor.shape.clone())));
        }
        for module in &self.modules {
            if let Some(place) = module.expert.filter(|_| module.fused) {
                let pieces = module.pieces().into_iter().filter(|_| place.index == 0);
                all.extend(
                    pieces.map(|(tensor, _, shape)| (tensor, [&[place.experts], &shape[..]].concat())),
                );
                continue;
            }
            if module.expert.is_some_and(|expert| self.removed_experts.contains(&expert.index)) {
                continue;
            }
            all.push((module.weight(), module.stored_shape().to_vec()));
            all.extend(module.bias().map(|name| (name, vec![module.shape.0])));
        }
        all
    }

    /// The tensors beside the modules, by their numbers.
    pub(super) fn other_tensors(&self) -> impl Iterator<Item = &TensorDef> {
        self.tensors.iter()
    }

    /// Changes all names in the files, for a model inside another one.
    pub(super) fn rename(&mut self, change: &dyn Fn(&mut String)) {
        let names = self.tensors.iter_mut().flat_map(|tensor| &mut tensor.names);
        for name in names.chain(self.modules.iter_mut().map(|module| &mut module.full_name)) {
            change(name);
        }
    }

    /// Whether a module is meant by a pattern: its path or the end of it, where `*` is anything and `?` any character.
    pub fn matches(&self, id: ModuleId, pattern: &str) -> bool {
        let module = self.module(id);
        matches_glob(pattern, &module.name) || matches_glob(pattern, module.short_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_beside_others_read_their_input_and_matrices_may_be_turned() {
        let mut builder = LayoutBuilder::new("h.0".into());
        let norms = ["norms.0.weight".to_owned(), "norms.1.weight".to_owned()];
        builder.stacked(&norms, &[3], false);
        builder.tensor_plus_one("norm.weight", &[6]);
        let [q] = builder.linears(6, [("attn.q", 4, false)]);
        builder.turn();
        let [up] = builder.linears_beside(6, [("mlp.up", 8, true)]);
        let down = builder.linear(8, ("mlp.down", 6, false));
        let mut layout = builder.finish();
        assert_eq!(layout.module(q).site, layout.module(up).site);
        assert_eq!(layout.sites().count(), 2);
        assert_eq!(layout.module(q).stored_shape(), [4, 6]);
        assert_eq!((layout.module(down).shape, layout.module(down).stored_shape()), ((6, 8), [8, 6]));
        let plus_one: Vec<bool> = layout.other_tensors().map(|tensor| tensor.plus_one).collect();
        assert_eq!(plus_one, [false, true]);
        layout.rename(&|name| name.insert_str(0, "text."));
        let tensors = layout.tensors();
        let shape =
            |name: &str| tensors.iter().find(|(known, _)| known == name).map(|(_, shape)| shape.clone());
        assert_eq!(shape("text.h.0.norms.1.weight"), Some(vec![3]));
        assert_eq!(shape("text.h.0.mlp.up.weight"), Some(vec![6, 8]));
        assert_eq!(shape("text.h.0.mlp.up.bias"), Some(vec![8]));
        assert_eq!(tensors.len(), 7);
    }

    #[test]
    fn experts_that_are_left_out_take_their_modules_and_their_rows_of_the_router_along() {
        let mut builder = LayoutBuilder::new("layers.0".into());
        builder.tensor("norm.weight", &[6]);
        builder.tensor_of_experts("gate.weight", &[4, 6]);
        let q = builder.linear(6, ("attn.q", 6, false));
        let expert = |index| ExpertPlace { index, experts: 4, chosen: 2 };
        let ups = [0, 1, 2, 3].map(|index| {
            builder.within_expert(expert(index), |b| b.linear(6, (&format!("experts.{index}.up"), 8, true)))
        });
        let shared = builder.linear(6, ("shared.up", 3, false));
        let whole = builder.finish();
        assert_eq!((whole.experts(), whole.kept_experts()), (Some((4, 2)), vec![0, 1, 2, 3]));
        assert_eq!(whole.cut_tensors().len(), 0);
        let left = whole.without_experts(&[1]).without_experts(&[1, 3]);
        assert_eq!((left.experts(), left.kept_experts()), (Some((2, 2)), vec![0, 2]));
        assert_eq!(left.removed_experts(), [1, 3]);
        let ids: Vec<ModuleId> = left.modules().map(|(id, _)| id).collect();
        assert_eq!(ids, [q, ups[0], ups[2], shared], "numbers stay");
        assert!(left.has(ups[2]) && !left.has(ups[3]) && left.find("experts.1.up").is_none());
        assert_eq!(left.sites().count(), 4);
        assert_eq!(left.elements(), 36 + 2 * 48 + 18);
        assert!((left.elements_per_token() - (36.0 + 2.0 * 48.0 + 18.0)).abs() < 1e-9);
        assert_eq!(left.cut_tensors(), ["layers.0.gate.weight"]);
        let shape = |name: &str| left.tensors().into_iter().find(|(known, _)| known == name).map(|(_, s)| s);
        assert_eq!(shape("layers.0.gate.weight"), Some(vec![2, 6]));
        assert_eq!(shape("layers.0.experts.1.up.weight"), None);
        assert_eq!(left.with_all_experts(), whole);
    }

    #[test]
    fn modules_of_one_call_share_a_site_and_are_found_by_their_names() {
        let mut builder = LayoutBuilder::new("model.layers.7".into());
        let norm = builder.tensor("norm.weight", &[6]);
        let [q, k] = builder.linears(6, [("attn.q", 4, true), ("attn.k", 2, false)]);
        let down = builder.linear(9, ("mlp.down", 6, false));
        let layout = builder.finish();
        assert_eq!(norm.index(), 0);
        assert_eq!(layout.module(q).site, layout.module(k).site);
        assert_ne!(layout.module(q).site, layout.module(down).site);
        assert_eq!(layout.sites().map(|(_, width)| width).collect::<Vec<_>>(), [6, 9]);
        assert_eq!(layout.find("mlp.down"), Some(down));
        assert_eq!(layout.find("down"), None);
        assert!(layout.matches(down, "down") && layout.matches(down, "mlp.*") && !layout.matches(q, "mlp.*"));
        assert_eq!(layout.elements(), 4 * 6 + 2 * 6 + 6 * 9);
        let names: Vec<_> = layout.tensors().into_iter().map(|(name, _)| name).collect();
        let all = ["norm.weight", "attn.q.weight", "attn.q.bias", "attn.k.weight", "mlp.down.weight"];
        assert_eq!(names, all.map(|name| format!("model.layers.7.{name}")));
    }
    #[test]
    fn experts_in_one_tensor_are_a_matrix_each_and_the_tensor_is_listed_once() {
        let mut builder = LayoutBuilder::new("layers.1".into());
        let names = ["mlp.experts.0.up_proj", "mlp.experts.1.up_proj"];
        for (index, name) in names.into_iter().enumerate() {
            let place = ExpertPlace { index, experts: 2, chosen: 1 };
            builder.within_fused_expert(place, |layout| layout.linear(6, (name, 4, true)));
        }
        let layout = builder.finish();
        let second = layout.modules().last().unwrap().1;
        assert_eq!((second.name.as_str(), second.shape), ("mlp.experts.1.up_proj", (4, 6)));
        assert_eq!(second.fused_tensor().as_deref(), Some("layers.1.mlp.experts.up_proj"));
        let tensors = [("up_proj", vec![2, 4, 6]), ("up_proj_bias", vec![2, 4])];
        let tensors = tensors.map(|(name, shape)| (format!("layers.1.mlp.experts.{name}"), shape));
        assert_eq!(layout.tensors(), tensors);
    }
}
