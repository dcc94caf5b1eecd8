//! Where and how fast things are computed, and where results go.

use crate::config::computing_places::PlacesName;
use crate::config::entry::SettingEntry;
use crate::config::format::OutputFormat;
use crate::device;
use crate::export::ExportFormat;
use crate::kernels::ggml::{GgmlMixture, MIXTURES};

pub(super) fn entries() -> Vec<SettingEntry> {
    [compute(), output()].into_iter().flatten().collect()
}

fn compute() -> Vec<SettingEntry> {
    vec![
        SettingEntry::text("device", "compute.device", "auto", |draft, found| {
            found.text().unwrap_or_default().clone_into(&mut draft.device);
            device::check_device(&draft.device).map_err(|e| found.mistake(e))
        })
        .about("Where to compute: auto (a GPU if there is one), cpu, cuda or cuda:N")
        .value_name("DEVICE")
        .choices(&["auto", "cpu", "cuda"])
        .of_machine()
        .in_fingerprint()
        .in_form("device", "auto, cpu, cuda or cuda:N", |study| study.compute.device.clone())
        .example("cpu"),
        SettingEntry::text("dtype", "compute.dtype", "auto", |draft, found| {
            draft.dtype = Some(found.clone());
            Ok(())
        })
        .about("Precision to compute in: auto (f32 on the CPU, bf16 on a GPU), f32, bf16 or f16")
        .detail("The CPU takes f32 only.")
        .value_name("DTYPE")
        .choices(&["auto", "f32", "bf16", "f16"])
        .of_machine()
        .in_fingerprint()
        .in_form("precision", "auto: f32 on cpu, bf16 on cuda", |study| study.compute.dtype.clone())
        .example("f32"),
        SettingEntry::count("threads", "compute.threads", 0, 0, |draft, n| {
            draft.threads = Some(n).filter(|&n| n > 0);
        })
        .at_most(1024)
        .about("Threads to compute with, for all workers together; 0 means one per core")
        .value_name("N")
        .of_machine()
        .example("2"),
        SettingEntry::count("workers", "compute.workers", 1, 1, |draft, n| draft.workers = n)
            .at_most(256)
            .about("Processes that compute cells at the same time, each with its share of the threads")
            .detail(
                "1 computes in one process. Each worker needs the memory of a study of its own; where there is too \
                 little, fewer are started.",
            )
            .value_name("N")
            .example("2"),
        SettingEntry::list("devices", "compute.devices", &[], |draft, found| {
            draft.devices.clone_from(&found.value);
            draft.devices.iter().try_for_each(|name| device::check_device(name)).map_err(|e| found.mistake(e))
        })
        .about("Devices that compute cells at the same time, each with a worker of its own: cuda:0,cuda:1")
        .detail("With more workers than devices, several workers share a device.")
        .value_name("DEVICE")
        .unset("the one of --device")
        .example("cpu"),
        SettingEntry::text("places", "compute.places", PlacesName::NAMES[0], |draft, found| {
            draft.places = found.parse()?;
            Ok(())
        })
        .about("Who computes: here (this machine) or slurm (jobs of a Slurm cluster)")
        .detail("With slurm, this machine computes nothing. The store has to be in a folder that all nodes see.")
        .value_name("PLACES")
        .choices(&PlacesName::NAMES)
        .example("slurm"),
        SettingEntry::count("jobs", "compute.jobs", 0, 0, |draft, n| draft.jobs = n)
            .at_most(1000)
            .about("Jobs that compute cells at the same time; 1 or more implies --places slurm")
            .detail("0 is one job with --places slurm, and none without.")
            .value_name("N")
            .example("8"),
        SettingEntry::text("slurm", "compute.slurm", "", |draft, found| {
            // Another line of a script would be a command.
            if found.value.contains(['\n', '\r']) {
                return Err(found.refuse(&found.value, "options of sbatch on one line"));
            }
            found.value.clone_into(&mut draft.slurm);
            Ok(())
        })
        .about("Options of sbatch for these jobs: \"-p gpu --gres=gpu:1 -t 4:00:00\"; implies --places slurm")
        .value_name("OPTIONS")
        .unset("none")
        .options_of_another_program()
        .example("-p gpu"),
        SettingEntry::count("batch-tokens", "compute.batch_tokens", 2048, 1, |draft, n| {
            draft.batch_tokens = n;
        })
        .about("Tokens that go through a block at once; limits the memory for activations")
        .value_name("N")
        .example("1024"),
        SettingEntry::count("batch-prompts", "compute.batch_prompts", 12, 1, |draft, n| {
            draft.batch_prompts = n;
        })
        .about("Prompts that are answered together")
        .value_name("N")
        .example("4"),
        SettingEntry::switch("offline", "compute.offline", false, |draft, yes| draft.offline = yes)
            .about("Never use the network, only the files in the hub cache")
            .value_name("BOOL")
            .of_machine()
            .example("true"),
    ]
}

fn output() -> Vec<SettingEntry> {
    vec![
        SettingEntry::text("store", "output.store", "", |draft, found| {
            draft.store = found.path();
            Ok(())
        })
        .about("Results database")
        .detail(
            "Checkpoints go into a folder beside it. The data folder is $XDG_DATA_HOME or ~/.local/share.",
        )
        .value_name("FILE")
        .unset("secateur/studies.db in the data folder")
        .of_machine()
        .example("s.db"),
        SettingEntry::text("save-models", "output.save_models", "", |draft, found| {
            draft.save_models = found.path();
            Ok(())
        })
        .about("Export every finished cell below this folder")
        .value_name("DIR")
        .unset("none")
        .example("out"),
        SettingEntry::text("save-as", "output.save_as", ExportFormat::default().0.name(), |draft, found| {
            draft.save_as = found.parse()?;
            Ok(())
        })
        .about(format!("The format of these exports ({})", ExportFormat::help()))
        .value_name("FORMAT")
        .choices(&ExportFormat::names())
        .example("gguf"),
        SettingEntry::text("save-quantized", "output.save_quantized", "", |draft, found| {
            draft.save_quantized = found.text().map(|_| found.parse()).transpose()?;
            Ok(())
        })
        .about("The types of the matrices in these exports, where the format is gguf")
        .detail(format!("One of {}.", GgmlMixture::names()))
        .value_name("TYPE")
        .choices(&MIXTURES.iter().map(|mixture| mixture.name()).collect::<Vec<_>>())
        .unset("the source's precision")
        .example("q8_0"),
        SettingEntry::text("format", "output.format", OutputFormat::NAMES[0], |draft, found| {
            draft.format = found.parse()?;
            Ok(())
        })
        .about("What goes to stdout: table, json (one object at the end) or jsonl (one event per line)")
        .value_name("FORMAT")
        .choices(&OutputFormat::NAMES)
        .example("jsonl"),
    ]
}
