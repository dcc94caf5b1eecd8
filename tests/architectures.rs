//! Every architecture through everything that a user can do with a model. `golden_tiny.rs` compares them with transformers.

mod common;

use candle_core::{DType, Device};
use common::{Place, Synthetic};
use secateur::engine::RunOptions;
use secateur::model::{ARCHITECTURES, ModelFolder};
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY, records};

#[test]
fn a_model_of_every_architecture_is_pruned_measured_exported_and_opened_again() {
    for architecture in ARCHITECTURES {
        let place = Place::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(*architecture) });
        let cells =
            vec![place.cell("magnitude", "0.5"), place.cell("wanda", "2:4"), place.cell("sparsegpt", "0.5")];
        let mut spec = place.spec(cells);
        spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
        spec.evaluation.task_limit = Some(2);
        let saved = place.path("saved");
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, _) = common::run(&place.path("studies.db"), spec.clone(), options);
        let names = ModelFolder::open(&place.path("model")).unwrap().config.module_names();
        for cell in &result.cells {
            assert_eq!(cell.modules.len(), result.model.blocks * names.len(), "{architecture:?}");
            let exported = ModelFolder::open(&saved.join(&cell.id)).unwrap();
            for module in &cell.modules {
                assert!(names.iter().any(|name| name == module.path()), "{}", module.name);
                let weight =
                    exported.weights.tensor(&format!("{}.weight", module.name), DType::F32, &Device::Cpu);
                let weight = weight.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let zeros = weight.iter().filter(|w| **w == 0.0).count();
                let counted = (module.footprint.zeros as usize, module.footprint.weights as usize);
                assert_eq!((zeros, weight.len()), counted, "{}", module.name);
            }
            let perplexity = cell.metrics.first(&PERPLEXITY);
            assert!(cell.metrics.first(&JS_DIVERGENCE).unwrap().value > 1e-4, "{architecture:?}");
            assert_eq!(records(&cell.metrics), 2);
            // What is exported is what was measured.
            let mut again = spec.clone();
            again.model = saved.join(&cell.id).display().to_string();
            again.cells.clear();
            let (again, _) = common::run(&place.path("again.db"), again, RunOptions::default());
            assert_eq!(again.base.metrics.first(&PERPLEXITY), perplexity, "{architecture:?} {}", cell.id);
        }
    }
}
